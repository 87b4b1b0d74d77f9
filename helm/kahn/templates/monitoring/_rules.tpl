{{/* The alerts, as a YAML list. `RELEASE` stands for the labels of this release's metrics. */}}
{{- define "kahn.alerts" -}}
- alert: KahnNoLeader
  expr: (sum(kahn_coordinator_role{RELEASE,role="leader"}) or vector(0)) == 0
  for: 1m
  labels: { severity: critical }
  annotations:
    summary: No coordinator leads
    description: No run progresses and no request is answered. Look at the logs of the coordinators and at Redis.
- alert: KahnFewerCoordinators
  expr: count(kahn_coordinator_role{RELEASE,role=~"leader|standby"} == 1) < {{ int .Values.coordinator.replicas }}
  for: 10m
  labels: { severity: warning }
  annotations:
    summary: A coordinator is missing
    description: {{ "{{ $value }}" }} of {{ int .Values.coordinator.replicas }} coordinators lead or are ready to take over.
- alert: KahnStoreSlow
  expr: histogram_quantile(0.99, sum by (le) (rate(kahn_store_append_seconds_bucket{RELEASE}[5m]))) > 0.5
  for: 10m
  labels: { severity: warning }
  annotations:
    summary: The store is slow
    description: One in a hundred appends takes {{ "{{ $value | humanizeDuration }}" }} or more. No task starts before its lease is stored.
- alert: KahnStoreLostBatches
  expr: sum(increase(kahn_store_lost_batches_total{RELEASE}[15m])) > 0
  labels: { severity: warning }
  annotations:
    summary: Redis lost changes that it had acknowledged
    description: The coordinator appended them again. Use appendfsync always, or replicas, if this happens more than once.
- alert: KahnAuditorRepair
  expr: sum(increase(kahn_auditor_repairs_total{RELEASE}[1h])) > 0
  labels: { severity: critical }
  annotations:
    summary: A derived value of the coordinator was wrong
    description: The auditor repaired it. This is a bug of Kahn; report it with the logs of the leader.
- alert: KahnWorkersLost
  expr: sum(increase(kahn_workers_lost_total{RELEASE}[15m])) > 5
  labels: { severity: warning }
  annotations:
    summary: Workers are lost
    description: Their tasks run again elsewhere. Look for pods that were killed for memory, and for nodes that left.
- alert: KahnTasksWait
  expr: sum by (executor, labels) (kahn_demand_tasks{RELEASE}) > 0 and on () (sum(kahn_workers{RELEASE,state="attached"}) or vector(0)) == 0
  for: 10m
  labels: { severity: warning }
  annotations:
    summary: Tasks wait and there is no worker
    description: {{ "{{ $value }}" }} tasks wait for a worker with executor {{ "{{ $labels.executor }}" }} and the labels "{{ "{{ $labels.labels }}" }}".
- alert: KahnQueueWait
  expr: histogram_quantile(0.9, sum by (le) (rate(kahn_queue_wait_seconds_bucket{RELEASE}[15m]))) > 600
  for: 15m
  labels: { severity: warning }
  annotations:
    summary: Tasks wait long for a worker
    description: One in ten tasks waits {{ "{{ $value | humanizeDuration }}" }} or more. Add workers, or raise maxReplicas.
- alert: KahnWorkerDisconnected
  expr: kahn_worker_connected{RELEASE} == 0
  for: 5m
  labels: { severity: warning }
  annotations:
    summary: A worker has no connection to a coordinator
    description: The worker {{ "{{ $labels.pod }}" }} gets no tasks. Look at its log.
{{- end -}}
