{{/* The environment of a worker. Takes (list root pool pool-name). */}}
{{- define "kahn.worker.env" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
- name: KAHN_CONFIG
  value: /etc/kahn/kahn.toml
{{- if not (hasKey $pool.capacity "cpu") }}
- name: CPU_MILLI
  valueFrom:
    resourceFieldRef: { resource: {{ include "kahn.pool.cpuResource" $pool }}, divisor: 1m }
{{- end }}
- name: KAHN_WORKER__CAPACITY
  value: {{ include "kahn.pool.capacity" (list $pool (index . 2)) }}
# Tokens are no files: the files of a Secret can be read by the group of the pod, which Kahn refuses.
{{ include "kahn.secretVariable" (list "KAHN_WORKER__TOKEN" (include "kahn.tokens.secret" $root) "worker-token") }}
{{ include "kahn.secretVariable" (list "KAHN_WORKER__HEALTH__METRICS_TOKEN" (include "kahn.tokens.secret" $root) "metrics-token") }}
# The root file system cannot be written.
- name: HOME
  value: /tmp
{{- if and $pool.kubernetes.enabled (has $pool.kubernetes.namespace (list "" $root.Release.Namespace)) }}
# Kubernetes removes the pods of tasks with the pod of their worker.
- name: KAHN_WORKER__KUBERNETES__OWNER_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: KAHN_WORKER__KUBERNETES__OWNER_UID
  valueFrom: { fieldRef: { fieldPath: metadata.uid } }
{{- end }}
{{- with $pool.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The mounts of a worker. Takes (list root pool). */}}
{{- define "kahn.worker.mounts" -}}
{{- $pool := index . 1 -}}
- { name: config, mountPath: /etc/kahn, readOnly: true }
- { name: data, mountPath: /var/lib/kahn }
- { name: tmp, mountPath: /tmp }
{{- if ne (index . 0).Values.tls.mode "disabled" }}
- { name: tls, mountPath: /run/kahn/tls, readOnly: true }
{{- end }}
{{- range $name, $_ := $pool.secrets }}
- { name: {{ include "kahn.worker.secretVolume" $name }}, mountPath: {{ printf "/run/kahn/secrets/%s" $name | quote }}, readOnly: true }
{{- end }}
{{- with $pool.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volumes of a worker. Takes (list root pool pool-name). */}}
{{- define "kahn.worker.volumes" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
- name: config
  configMap: { name: {{ include "kahn.pool.name" (list $root (index . 2)) }} }
- name: data
  {{- include "kahn.volumeSource" $pool.dataVolume | nindent 2 }}
- name: tmp
  {{- include "kahn.volumeSource" $pool.tmpVolume | nindent 2 }}
{{- if ne $root.Values.tls.mode "disabled" }}
{{ include "kahn.tls.volume" (list $root "worker") }}
{{- end }}
{{- range $name, $secret := $pool.secrets }}
- name: {{ include "kahn.worker.secretVolume" $name }}
  secret: { secretName: {{ $secret.name }}, defaultMode: 0440, items: [{ key: {{ $secret.key }}, path: value }] }
{{- end }}
{{- with $pool.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The name of the volume of a task's secret, whose name may contain what the name of a volume may not. */}}
{{- define "kahn.worker.secretVolume" -}}
secret-{{ regexReplaceAll "[^a-z0-9-]" (lower .) "-" | trunc 40 | trimSuffix "-" }}-{{ sha256sum . | trunc 8 }}
{{- end -}}

{{/* Whether a pool's size is decided by something other than `replicas`: `true` or empty. */}}
{{- define "kahn.pool.scales" -}}
{{- if ne .autoscaling.type "none" }}true{{ end -}}
{{- end -}}

{{/* Workers of a pool are spread over nodes, unless the values say otherwise. Takes (list root pool pool-name). */}}
{{- define "kahn.worker.placement" -}}
{{- $pool := index . 1 -}}
{{- $selector := include "kahn.pool.selector" (list (index . 0) (index . 2)) | fromYaml -}}
{{- $spread := list (dict
  "maxSkew" 1
  "topologyKey" "kubernetes.io/hostname"
  "whenUnsatisfiable" "ScheduleAnyway"
  "labelSelector" (dict "matchLabels" $selector)) -}}
{{- with $pool.affinity -}}
affinity:
  {{- toYaml . | nindent 2 }}
{{ end -}}
topologySpreadConstraints:
  {{- toYaml (default $spread $pool.topologySpreadConstraints) | nindent 2 }}
{{- end -}}
