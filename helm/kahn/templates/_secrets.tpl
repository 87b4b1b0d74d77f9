{{/* Secrets that the chart generates once, or that you supply. */}}

{{/*
The data of a Secret of this namespace, as YAML: empty if it does not exist, or if Helm has no access to the cluster, as in
`helm template`. Takes (list root name).
*/}}
{{- define "kahn.secretData" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- toYaml (default dict (default dict $found).data) -}}
{{- end -}}

{{/*
The base64 text of each key of a generated Secret, as YAML: what the Secret in the cluster has, and new random text for other
keys. The result is remembered, because every use of it in one release must be the same. Takes (list root name prefix keys).
*/}}
{{- define "kahn.generated" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $prefix := index . 2 -}}
{{- if not (hasKey $root.Values "generated") -}}{{- $_ := set $root.Values "generated" dict -}}{{- end -}}
{{- if not (hasKey $root.Values.generated $name) -}}
{{- $data := include "kahn.secretData" (list $root $name) | fromYaml -}}
{{- $kept := dict -}}
{{- range index . 3 -}}
{{- $_ := set $kept . (default (printf "%s%s" $prefix (randAlphaNum 64) | b64enc) (get $data .)) -}}
{{- end -}}
{{- $_ := set $root.Values.generated $name $kept -}}
{{- end -}}
{{- toYaml (get $root.Values.generated $name) -}}
{{- end -}}

{{/* Tokens of clients, workers and the readers of metrics. */}}
{{- define "kahn.tokens.secret" -}}
{{- default (printf "%s-tokens" (include "kahn.fullname" .)) .Values.tokens.existingSecret -}}
{{- end -}}

{{- define "kahn.tokens.data" -}}
{{- include "kahn.generated" (list . (include "kahn.tokens.secret" .) "kahn_" (list "client-token" "worker-token" "metrics-token")) -}}
{{- end -}}

{{/* The password of the bundled Redis. */}}
{{- define "kahn.redis.secret" -}}
{{- default (include "kahn.redis.name" .) .Values.redis.existingSecret -}}
{{- end -}}

{{- define "kahn.redis.data" -}}
{{- include "kahn.generated" (list . (include "kahn.redis.secret" .) "" (list "password")) -}}
{{- end -}}

{{/*
A checksum that changes with the given Secrets, to restart pods. Takes (list root names). Tokens and the password that this
release generates are included as they will be, others as they are in the cluster.
*/}}
{{- define "kahn.secretsChecksum" -}}
{{- $root := index . 0 -}}
{{- $all := dict -}}
{{- range index . 1 -}}
{{- if . -}}
{{- if and (eq . (include "kahn.tokens.secret" $root)) (not $root.Values.tokens.existingSecret) -}}
{{- $_ := set $all . (include "kahn.tokens.data" $root) -}}
{{- else if and (eq . (include "kahn.redis.secret" $root)) (not $root.Values.redis.existingSecret) -}}
{{- $_ := set $all . (include "kahn.redis.data" $root) -}}
{{- else -}}
{{- $_ := set $all . (include "kahn.secretData" (list $root .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $all | toYaml | sha256sum -}}
{{- end -}}
