{{/* Functions on values. */}}

{{/*
Overlays a dict with another, in place. Unlike `mergeOverwrite`, also with values that are empty, such as `false` and 0.
Takes (list base over).
*/}}
{{- define "kahn.overlay" -}}
{{- $base := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- $old := get $base $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "kahn.overlay" (list $old $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pools that exist, by name and with the defaults filled in, as YAML. */}}
{{- define "kahn.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.pools -}}
{{- $pool := deepCopy $.Values.workerDefaults -}}
{{- include "kahn.overlay" (list $pool (default dict $own)) -}}
{{- if $pool.enabled -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* The reference of an image. Takes a dict with registry, repository, tag and digest. */}}
{{- define "kahn.imageReference" -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end -}}

{{/* The image of Kahn. */}}
{{- define "kahn.image" -}}
{{- $image := .Values.image -}}
{{- include "kahn.imageReference" (merge (dict "tag" (default .Chart.AppVersion $image.tag)) $image) -}}
{{- end -}}

{{/*
The image of a pool: its own settings, and those of Kahn's image where it has none. A digest belongs to the image and the tag
for which it was given. Takes (list root pool).
*/}}
{{- define "kahn.pool.image" -}}
{{- $root := index . 0 -}}
{{- $own := (index . 1).image -}}
{{- $common := $root.Values.image -}}
{{- $digest := $own.digest -}}
{{- if not (or $own.repository $own.tag $own.digest) -}}{{- $digest = $common.digest -}}{{- end -}}
{{- include "kahn.imageReference" (dict
  "registry" (default $common.registry $own.registry)
  "repository" (default $common.repository $own.repository)
  "tag" (default (default $root.Chart.AppVersion $common.tag) $own.tag)
  "digest" $digest) -}}
{{- end -}}

{{/* A text or a number as text. Numbers of values have lost whether they are integers, and would be shown as 2e+09. */}}
{{- define "kahn.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* The number of bytes of a quantity, such as `2Gi`. Takes (list quantity what-it-is). */}}
{{- define "kahn.bytes" -}}
{{- $text := include "kahn.plain" (index . 0) -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$" $text) -}}
{{- fail (printf "%s is %q; write an amount such as 512Mi or 4Gi" (index . 1) $text) -}}
{{- end -}}
{{- $units := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $unit := get $units (regexFind "[A-Za-z]*$" $text) -}}
{{- mulf (float64 (regexFind "^[0-9.]+" $text)) $unit | floor | int64 -}}
{{- end -}}

{{/*
The room of a worker for tasks, as Kahn writes it. `$(CPU_MILLI)` is replaced by Kubernetes. Takes (list pool pool-name).
*/}}
{{- define "kahn.pool.capacity" -}}
{{- $pool := index . 0 -}}
{{- $name := index . 1 -}}
{{- $limits := default dict $pool.resources.limits -}}
{{- $capacity := deepCopy $pool.capacity -}}
{{- if not (hasKey $capacity "cpu") -}}
{{- if not (include "kahn.pool.cpuResource" $pool) -}}
{{- fail (printf "pools.%s: set resources.requests.cpu, resources.limits.cpu or capacity.cpu, which tell how many tasks fit" $name) -}}
{{- end -}}
{{- $_ := set $capacity "cpu" "$(CPU_MILLI)m" -}}
{{- end -}}
{{- if not (hasKey $capacity "memory") -}}
{{- if not $limits.memory -}}
{{- fail (printf "pools.%s: set resources.limits.memory or capacity.memory, which tell how many tasks fit" $name) -}}
{{- end -}}
{{- $limit := include "kahn.bytes" (list $limits.memory (printf "pools.%s: resources.limits.memory" $name)) | int64 -}}
{{- $reserved := include "kahn.bytes" (list $pool.reservedMemory (printf "pools.%s: reservedMemory" $name)) | int64 -}}
{{- if le $limit $reserved -}}
{{- fail (printf "pools.%s: resources.limits.memory (%v) must be more than reservedMemory (%v)" $name $limits.memory $pool.reservedMemory) -}}
{{- end -}}
{{- $_ := set $capacity "memory" (printf "%dMi" (div (sub $limit $reserved) 1048576)) -}}
{{- end -}}
{{- if not (hasKey $capacity "gpu") -}}
{{- range $resource, $amount := $limits -}}
{{- if hasSuffix ".com/gpu" $resource -}}{{- $_ := set $capacity "gpu" $amount -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $items := list -}}
{{- range $resource, $amount := $capacity -}}
{{- $items = append $items (printf "%s=%s" $resource (include "kahn.plain" $amount)) -}}
{{- end -}}
{{- join "," $items -}}
{{- end -}}

{{/* The resource from which the processors of a pool's workers follow: empty if there is none. */}}
{{- define "kahn.pool.cpuResource" -}}
{{- if dig "limits" "cpu" "" .resources -}}limits.cpu
{{- else if dig "requests" "cpu" "" .resources -}}requests.cpu
{{- end -}}
{{- end -}}

{{/* Fails if values contradict each other. */}}
{{- define "kahn.validate" -}}
{{- $external := .Values.store.external -}}
{{- if and (eq .Values.store.type "embedded") (gt (int .Values.coordinator.replicas) 1) -}}
{{- fail "store.type is embedded, which only one coordinator can use: set coordinator.replicas to 1, or store.type to external" -}}
{{- end -}}
{{- if and (eq .Values.store.type "embedded") (not .Values.coordinator.persistence.enabled) -}}
{{- fail "store.type is embedded, whose file needs a volume: set coordinator.persistence.enabled to true" -}}
{{- end -}}
{{- if and (eq .Values.store.type "external") (not $external.url) (not $external.urlSecret) -}}
{{- fail "store.type is external: set store.external.url or store.external.urlSecret" -}}
{{- end -}}
{{- if regexMatch "://[^/@]*:[^/@]*@" $external.url -}}
{{- fail "store.external.url contains a password: put the URL into a Secret and set store.external.urlSecret, or set store.external.passwordSecret" -}}
{{- end -}}
{{- if eq .Values.tls.mode "existingSecrets" -}}
{{- $secrets := .Values.tls.existingSecrets -}}
{{- if not $secrets.coordinator -}}{{- fail "tls.mode is existingSecrets: set tls.existingSecrets.coordinator" -}}{{- end -}}
{{- if and (include "kahn.tls.has" (list . "worker")) (not $secrets.worker) -}}
{{- fail "workers must show a certificate: set tls.existingSecrets.worker, or tls.clientAuth to none" -}}
{{- end -}}
{{- if and (include "kahn.tls.has" (list . "client")) (not $secrets.client) -}}
{{- fail "tls.clientAuth is required: set tls.existingSecrets.client" -}}
{{- end -}}
{{- if and (include "kahn.autoscaler.exists" .) (not (and $secrets.autoscaler $secrets.keda)) -}}
{{- fail "a pool scales: set tls.existingSecrets.autoscaler and tls.existingSecrets.keda, or autoscaler.enabled to false" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.tls.mode "certManager") (not .Values.tls.certManager.issuerRef) -}}
{{- fail "tls.mode is certManager: set tls.certManager.issuerRef" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.enabled is true: set gateway.parentRefs" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is true: set ingress.hosts" -}}
{{- end -}}
{{- range $name, $pool := include "kahn.pools" . | fromYaml -}}
{{- $scaling := $pool.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "pools.%s: autoscaling.minReplicas must not exceed autoscaling.maxReplicas" $name) -}}
{{- end -}}
{{- if and (eq $scaling.type "hpa") (lt (int $scaling.minReplicas) 1) -}}
{{- fail (printf "pools.%s: only autoscaling.type keda can scale to 0" $name) -}}
{{- end -}}
{{- if and $pool.kubernetes.enabled (not (and (hasKey $pool.capacity "cpu") (hasKey $pool.capacity "memory"))) -}}
{{- fail (printf "pools.%s: kubernetes.enabled is true: set capacity.cpu and capacity.memory to what all pods of a worker may request" $name) -}}
{{- end -}}
{{- $keda := $scaling.keda -}}
{{- if and (eq $scaling.type "keda") (not $keda.triggers) (eq $keda.source "prometheus") (not $keda.serverAddress) -}}
{{- fail (printf "pools.%s: set autoscaling.keda.serverAddress to the URL of Prometheus, or autoscaling.keda.source to autoscaler" $name) -}}
{{- end -}}
{{- if and (include "kahn.keda.asksAutoscaler" $pool) (not $.Values.autoscaler.enabled) -}}
{{- fail (printf "pools.%s: autoscaling.keda.source is autoscaler: set autoscaler.enabled to true" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
