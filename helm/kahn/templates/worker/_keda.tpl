{{/*
The demand for workers of a pool: tasks that wait for room and could run in it, and the attempts that its workers run. Takes
(list root pool pool-name).
*/}}
{{- define "kahn.keda.query" -}}
{{- $root := index . 0 -}}
{{- $keda := (index . 1).autoscaling.keda -}}
{{- $release := printf "namespace=%q,app_kubernetes_io_instance=%q" $root.Release.Namespace $root.Release.Name -}}
(sum(kahn_demand_tasks{ {{- $release }},executor=~{{ $keda.demandExecutors | quote }},labels=~{{ $keda.demandLabels | quote -}} }) or vector(0)) + (sum(kahn_worker_attempts_running{ {{- $release }},kahn_pool={{ index . 2 | quote -}} }) or vector(0))
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
    threshold: {{ $keda.tasksPerWorker | quote }}
    # A query without a result is an error, not a reason to remove all workers.
    ignoreNullValues: "false"
  {{- with $keda.authenticationRef }}
  authenticationRef: { name: {{ . }} }
  {{- end }}
{{- else -}}
{{- $metrics := list
  (dict "name" "waiting" "selector" "kahn_tasks_ready")
  (dict "name" "ahead" "selector" "kahn_leases{phase=\"ahead\"}")
  (dict "name" "placed" "selector" "kahn_leases{phase=\"placed\"}")
  (dict "name" "started" "selector" "kahn_leases{phase=\"started\"}") -}}
{{- range $metrics }}
- type: metrics-api
  name: {{ .name }}
  metricType: AverageValue
  metadata:
    url: http://{{ include "kahn.coordinator.headless" $root }}.{{ $root.Release.Namespace }}.svc:7401/metrics
    format: prometheus
    valueLocation: {{ .selector | quote }}
    # Standbys report 0.
    aggregateFromKubeServiceEndpoints: "true"
    aggregationType: sum
    targetValue: {{ $keda.tasksPerWorker | quote }}
    authMode: bearer
  authenticationRef: { name: {{ include "kahn.pool.name" (list $root (index $ 2)) }} }
{{- end }}
{{- end -}}
{{- end -}}
