{{/* The files `kahn.toml`. What is secret, or differs between the pods of a component, is in their environment instead. */}}

{{/* A dict as TOML. Takes (list dict path). */}}
{{- define "kahn.toml" -}}
{{- $path := index . 1 -}}
{{- $tables := dict -}}
{{- $lines := list -}}
{{- range $key, $value := index . 0 -}}
{{- $name := ternary $key (toJson $key) (regexMatch "^[A-Za-z0-9_-]+$" $key) -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $tables $name $value -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $lines = append $lines (printf "%s = %s" $name (include "kahn.tomlValue" $value)) -}}
{{- end -}}
{{- end -}}
{{- if and $path $lines -}}
{{- printf "\n[%s]\n" $path -}}
{{- end -}}
{{- range $lines -}}
{{- printf "%s\n" . -}}
{{- end -}}
{{- range $name, $table := $tables -}}
{{- include "kahn.toml" (list $table (ternary (printf "%s.%s" $path $name) $name (ne $path ""))) -}}
{{- end -}}
{{- end -}}

{{- define "kahn.tomlValue" -}}
{{- if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}{{- $items = append $items (include "kahn.tomlValue" .) -}}{{- end -}}
[{{ join ", " $items }}]
{{- else if kindIs "map" . -}}
{{- fail "a list of tables cannot be written to kahn.toml" -}}
{{- else if kindIs "string" . -}}
{{- toRawJson . -}}
{{- else -}}
{{- include "kahn.plain" . -}}
{{- end -}}
{{- end -}}

{{- define "kahn.telemetry.config" -}}
{{- $telemetry := dict "log" .Values.telemetry.log "log_format" .Values.telemetry.logFormat -}}
{{- with .Values.telemetry.otlpEndpoint -}}{{- $_ := set $telemetry "otlp_endpoint" . -}}{{- end -}}
{{- toYaml $telemetry -}}
{{- end -}}

{{/* `http` or `https`. */}}
{{- define "kahn.scheme" -}}{{ ternary "http" "https" (eq .Values.tls.mode "disabled") }}{{- end -}}

{{/* The URL at which pods of the cluster reach the coordinators. */}}
{{- define "kahn.coordinator.url" -}}
{{ include "kahn.scheme" . }}://{{ include "kahn.coordinator.name" . }}.{{ .Release.Namespace }}.svc:{{ int .Values.coordinator.service.port }}
{{- end -}}

{{/* The section `[coordinator.store]`, without what is secret. */}}
{{- define "kahn.store.config" -}}
{{- $store := dict -}}
{{- if .Values.store.partitions -}}{{- $_ := set $store "partitions" .Values.store.partitions -}}{{- end -}}
{{- if eq .Values.store.type "embedded" -}}
{{- $_ := set $store "url" "embedded" -}}
{{- $_ := set $store "durability" "disk" -}}
{{- else if eq .Values.store.type "external" -}}
{{- $external := .Values.store.external -}}
{{- if not $external.urlSecret -}}{{- $_ := set $store "url" $external.url -}}{{- end -}}
{{- with $external.user -}}{{- $_ := set $store "user" . -}}{{- end -}}
{{- with $external.passwordSecret -}}{{- $_ := set $store "password_file" "/run/kahn/store-password/password" -}}{{- end -}}
{{- with $external.sentinelUser -}}{{- $_ := set $store "sentinel_user" . -}}{{- end -}}
{{- with $external.sentinelPasswordSecret -}}
{{- $_ := set $store "sentinel_password_file" "/run/kahn/sentinel-password/password" -}}
{{- end -}}
{{- with $external.caSecret -}}{{- $_ := set $store "ca_file" "/run/kahn/store-ca/ca.crt" -}}{{- end -}}
{{- with $external.certificateSecret -}}
{{- $_ := set $store "cert_file" "/run/kahn/store-certificate/tls.crt" -}}
{{- $_ := set $store "key_file" "/run/kahn/store-certificate/tls.key" -}}
{{- end -}}
{{- if $external.replicas -}}{{- $_ := set $store "replicas" $external.replicas -}}{{- end -}}
{{- end -}}
{{- toYaml $store -}}
{{- end -}}

{{/*
What the workers of pools that scale are like, which coordinators must know while a pool has none. Tasks that pools of a fixed size
cannot take count for these.
*/}}
{{- define "kahn.coordinator.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := include "kahn.pools" . | fromYaml -}}
{{- if include "kahn.pool.scales" $pool -}}
{{- $cpu := include "kahn.pool.cpuResource" $pool | splitList "." -}}
{{- $capacity := include "kahn.pool.capacity" (list $pool $name) -}}
{{- if eq (len $cpu) 2 -}}
{{- $amount := include "kahn.plain" (dig (index $cpu 0) (index $cpu 1) "" $pool.resources) -}}
{{- $capacity = replace "$(CPU_MILLI)m" $amount $capacity -}}
{{- end -}}
{{- $scaling := $pool.autoscaling -}}
{{- $executors := ternary (list "builtin" "kubernetes") $scaling.executors $pool.kubernetes.enabled -}}
{{- $_ := set $pools $name (dict
  "labels" $pool.labels
  "capacity" $capacity
  "executors" $executors
  "functions" $scaling.functions
  "secrets" (keys $pool.secrets | sortAlpha)
  "workers_max" (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* `kahn.toml` of the coordinators. */}}
{{- define "kahn.coordinator.toml" -}}
{{- $coordinator := dict
  "listen" (printf "%s:7400" .Values.listenAddress)
  "data_dir" "/var/lib/kahn/data"
  "health" (dict "listen" (printf "%s:7401" .Values.listenAddress))
  "store" (include "kahn.store.config" . | fromYaml) -}}
{{- if eq .Values.tls.mode "disabled" -}}
{{- $_ := set $coordinator "insecure" true -}}
{{- else -}}
{{- $tls := dict
  "cert_file" "/run/kahn/tls/tls.crt"
  "key_file" "/run/kahn/tls/tls.key"
  "ca_file" "/run/kahn/tls/ca.crt" -}}
{{- if ne .Values.tls.clientAuth "none" -}}
{{- $_ := set $tls "client_ca_file" "/run/kahn/tls/ca.crt" -}}
{{- $_ := set $tls "client_auth" .Values.tls.clientAuth -}}
{{- end -}}
{{- $_ := set $coordinator "tls" $tls -}}
{{- end -}}
{{- with .Values.blobs.url -}}{{- $_ := set $coordinator "blobs" (dict "url" .) -}}{{- end -}}
{{- with include "kahn.coordinator.pools" . | fromYaml -}}{{- $_ := set $coordinator "pools" . -}}{{- end -}}
{{- include "kahn.overlay" (list $coordinator (deepCopy .Values.coordinator.config)) -}}
{{- $file := dict "coordinator" $coordinator "telemetry" (include "kahn.telemetry.config" . | fromYaml) -}}
{{- include "kahn.toml" (list $file "") -}}
{{- end -}}

{{/* `kahn.toml` of a pool. Takes (list root pool pool-name). */}}
{{- define "kahn.worker.toml" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $secrets := dict -}}
{{- range $name, $secret := $pool.secrets -}}
{{- $entry := dict "file" (printf "/run/kahn/secrets/%s/value" $name) -}}
{{- with $secret.namespaces -}}{{- $_ := set $entry "namespaces" . -}}{{- end -}}
{{- $_ := set $secrets $name $entry -}}
{{- end -}}
{{- $worker := dict
  "coordinator" (include "kahn.coordinator.url" $root)
  "data_dir" "/var/lib/kahn/data"
  "health" (dict "listen" (printf "%s:7402" $root.Values.listenAddress))
  "pool" (index . 2)
  "labels" $pool.labels
  "secrets" $secrets -}}
{{- if $pool.kubernetes.enabled -}}
{{- $_ := set $worker "kubernetes" (dict "enabled" true "namespace" (default $root.Release.Namespace $pool.kubernetes.namespace)) -}}
{{- end -}}
{{- if ne $root.Values.tls.mode "disabled" -}}
{{- $tls := dict "ca_file" "/run/kahn/tls/ca.crt" -}}
{{- if include "kahn.tls.has" (list $root "worker") -}}
{{- $_ := set $tls "cert_file" "/run/kahn/tls/tls.crt" -}}
{{- $_ := set $tls "key_file" "/run/kahn/tls/tls.key" -}}
{{- end -}}
{{- $_ := set $worker "tls" $tls -}}
{{- end -}}
{{- include "kahn.overlay" (list $worker (deepCopy $pool.config)) -}}
{{- $file := dict "worker" $worker "telemetry" (include "kahn.telemetry.config" $root | fromYaml) -}}
{{- include "kahn.toml" (list $file "") -}}
{{- end -}}
