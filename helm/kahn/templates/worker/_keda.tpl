{{/* The number of workers that a pool needs, from Prometheus. Only the leader reports it. Takes (list root pool pool-name). */}}
{{- define "kahn.keda.query" -}}
{{- $root := index . 0 -}}
max(kahn_pool_workers_wanted{namespace={{ $root.Release.Namespace | quote }},app_kubernetes_io_instance={{ $root.Release.Name | quote }},pool={{ index . 2 | quote }}})
{{- end -}}

{{/* Whether KEDA asks the autoscaler about a pool: `true` or empty. Takes the pool. */}}
{{- define "kahn.keda.asksAutoscaler" -}}
{{- if and (eq .autoscaling.type "keda") (not .autoscaling.keda.triggers) (eq .autoscaling.keda.source "autoscaler") }}true{{ end -}}
{{- end -}}

{{/* The triggers of a pool's ScaledObject. Takes (list root pool pool-name). */}}
{{- define "kahn.keda.triggers" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $keda := $pool.autoscaling.keda -}}
{{- if $keda.triggers -}}
{{- toYaml $keda.triggers -}}
{{- else if eq $keda.source "prometheus" -}}
- type: prometheus
  name: demand
  metricType: AverageValue
  metadata:
    serverAddress: {{ $keda.serverAddress | quote }}
    query: {{ default (include "kahn.keda.query" .) $keda.query | quote }}
    threshold: "1"
    # A query without a result is an error, not a reason to remove all workers.
    ignoreNullValues: "false"
  {{- with $keda.authenticationRef }}
  authenticationRef: { name: {{ . }} }
  {{- end }}
{{- else -}}
# The autoscaler pushes the first demand, so that workers do not wait for the next poll.
- type: external-push
  name: demand
  metricType: AverageValue
  metadata:
    scalerAddress: {{ include "kahn.autoscaler.name" $root }}.{{ $root.Release.Namespace }}.svc:7403
    pool: {{ index . 2 | quote }}
    {{- if ne $root.Values.tls.mode "disabled" }}
    enableTLS: "true"
    {{- end }}
  {{- if ne $root.Values.tls.mode "disabled" }}
  authenticationRef: { name: {{ include "kahn.autoscaler.name" $root }} }
  {{- end }}
{{- end -}}
{{- end -}}
