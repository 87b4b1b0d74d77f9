{{/* The autoscaler, which tells KEDA how many workers each pool needs, and Kubernetes which of them are busy. */}}

{{- define "kahn.autoscaler.name" -}}{{ include "kahn.fullname" . }}-autoscaler{{- end -}}

{{/* Whether there is an autoscaler, because a pool scales: `true` or empty. */}}
{{- define "kahn.autoscaler.exists" -}}
{{- $scales := false -}}
{{- range $name, $pool := include "kahn.pools" . | fromYaml -}}
{{- if include "kahn.pool.scales" $pool -}}{{- $scales = true -}}{{- end -}}
{{- end -}}
{{- if and $scales .Values.autoscaler.enabled }}true{{ end -}}
{{- end -}}

{{/* `kahn.toml` of the autoscaler. */}}
{{- define "kahn.autoscaler.toml" -}}
{{- $autoscaler := dict
  "listen" (printf "%s:7403" .Values.listenAddress)
  "health" (dict "listen" (printf "%s:7404" .Values.listenAddress))
  "deletion_cost" (dict "enabled" .Values.autoscaler.deletionCost) -}}
{{- if eq .Values.tls.mode "disabled" -}}
{{- $_ := set $autoscaler "insecure" true -}}
{{- else -}}
{{- $_ := set $autoscaler "tls" (dict
  "cert_file" "/run/kahn/tls/tls.crt"
  "key_file" "/run/kahn/tls/tls.key"
  "client_ca_file" "/run/kahn/tls/ca.crt") -}}
{{- end -}}
{{- include "kahn.overlay" (list $autoscaler (deepCopy .Values.autoscaler.config)) -}}
{{- $file := dict "autoscaler" $autoscaler "telemetry" (include "kahn.telemetry.config" . | fromYaml) -}}
{{- include "kahn.toml" (list $file "") -}}
{{- end -}}

{{/* The environment of the autoscaler, a client of the coordinators. */}}
{{- define "kahn.autoscaler.env" -}}
- { name: KAHN_CONFIG, value: /etc/kahn/kahn.toml }
- { name: KAHN_COORDINATOR_URL, value: {{ include "kahn.coordinator.url" . }} }
{{ include "kahn.secretVariable" (list "KAHN_TOKEN" (include "kahn.tokens.secret" .) "client-token") }}
{{- if ne .Values.tls.mode "disabled" }}
- { name: KAHN_CA_FILE, value: /run/kahn/tls/ca.crt }
- { name: KAHN_CERT_FILE, value: /run/kahn/tls/tls.crt }
- { name: KAHN_KEY_FILE, value: /run/kahn/tls/tls.key }
{{- end }}
{{- with .Values.autoscaler.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
