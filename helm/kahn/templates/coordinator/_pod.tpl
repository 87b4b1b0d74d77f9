{{/* The environment of a coordinator: what is secret, and what differs between the pods. */}}
{{- define "kahn.coordinator.env" -}}
{{- $tokens := include "kahn.tokens.secret" . -}}
- name: KAHN_CONFIG
  value: /etc/kahn/kahn.toml
- name: POD_NAME
  valueFrom:
    fieldRef: { fieldPath: metadata.name }
- name: KAHN_COORDINATOR__ADVERTISE
  value: {{ include "kahn.scheme" . }}://$(POD_NAME).{{ include "kahn.coordinator.headless" . }}.{{ .Release.Namespace }}.svc:7400
# Tokens are no files: the files of a Secret can be read by the group of the pod, which Kahn refuses.
{{ include "kahn.secretVariable" (list "KAHN_COORDINATOR__CLIENT_TOKEN" $tokens "client-token") }}
{{ include "kahn.secretVariable" (list "KAHN_COORDINATOR__WORKER_TOKEN" $tokens "worker-token") }}
{{ include "kahn.secretVariable" (list "KAHN_COORDINATOR__HEALTH__METRICS_TOKEN" $tokens "metrics-token") }}
{{- if eq .Values.store.type "bundled" }}
{{ include "kahn.secretVariable" (list "REDIS_PASSWORD" (include "kahn.redis.secret" .) "password") }}
- name: KAHN_COORDINATOR__STORE__URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "kahn.redis.name" . }}.{{ .Release.Namespace }}.svc:6379
{{- else if eq .Values.store.type "external" }}
{{- with .Values.store.external.urlSecret }}
{{ include "kahn.secretVariable" (list "KAHN_COORDINATOR__STORE__URL" .name .key) }}
{{- end }}
{{- end }}
{{- with .Values.coordinator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a coordinator reads the environment from, as YAML. */}}
{{- define "kahn.coordinator.envFrom" -}}
{{- $sources := .Values.coordinator.extraEnvFrom -}}
{{- with .Values.blobs.existingSecret -}}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end -}}

{{- define "kahn.coordinator.mounts" -}}
- { name: config, mountPath: /etc/kahn, readOnly: true }
- { name: data, mountPath: /var/lib/kahn }
- { name: tmp, mountPath: /tmp }
{{- if ne .Values.tls.mode "disabled" }}
- { name: tls, mountPath: /run/kahn/tls, readOnly: true }
{{- end }}
{{- if eq .Values.store.type "external" }}
{{- if .Values.store.external.passwordSecret }}
- { name: store-password, mountPath: /run/kahn/store-password, readOnly: true }
{{- end }}
{{- if .Values.store.external.sentinelPasswordSecret }}
- { name: sentinel-password, mountPath: /run/kahn/sentinel-password, readOnly: true }
{{- end }}
{{- if .Values.store.external.caSecret }}
- { name: store-ca, mountPath: /run/kahn/store-ca, readOnly: true }
{{- end }}
{{- if .Values.store.external.certificateSecret }}
- { name: store-certificate, mountPath: /run/kahn/store-certificate, readOnly: true }
{{- end }}
{{- end }}
{{- if .Values.blobs.existingClaim }}
- { name: blobs, mountPath: /var/lib/kahn-blobs }
{{- end }}
{{- with .Values.coordinator.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kahn.coordinator.volumes" -}}
- name: config
  configMap: { name: {{ include "kahn.coordinator.name" . }} }
- name: tmp
  emptyDir: {}
{{- if not .Values.coordinator.persistence.enabled }}
- name: data
  emptyDir: {}
{{- end }}
{{- if ne .Values.tls.mode "disabled" }}
{{ include "kahn.tls.volume" (list . "coordinator") }}
{{- end }}
{{- if eq .Values.store.type "external" }}
{{- with .Values.store.external.passwordSecret }}
- name: store-password
  secret: { secretName: {{ .name }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: password }] }
{{- end }}
{{- with .Values.store.external.sentinelPasswordSecret }}
- name: sentinel-password
  secret: { secretName: {{ .name }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: password }] }
{{- end }}
{{- with .Values.store.external.caSecret }}
- name: store-ca
  secret: { secretName: {{ .name }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: ca.crt }] }
{{- end }}
{{- with .Values.store.external.certificateSecret }}
- name: store-certificate
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- with .Values.blobs.existingClaim }}
- name: blobs
  persistentVolumeClaim: { claimName: {{ . }} }
{{- end }}
{{- with .Values.coordinator.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Init containers. A coordinator that starts before its Redis would end and be restarted ever later. */}}
{{- define "kahn.coordinator.initContainers" -}}
{{- if eq .Values.store.type "bundled" }}
- name: wait-for-redis
  image: {{ include "kahn.imageReference" .Values.redis.image }}
  imagePullPolicy: {{ .Values.redis.image.pullPolicy }}
  command: [sh, -c]
  args:
    - until test "$(redis-cli -h {{ include "kahn.redis.name" . }}.{{ .Release.Namespace }}.svc ping)" = PONG; do sleep 1; done
  env:
    {{- include "kahn.secretVariable" (list "REDISCLI_AUTH" (include "kahn.redis.secret" .) "password") | nindent 4 }}
  resources: { requests: { cpu: 10m, memory: 16Mi }, limits: { memory: 64Mi } }
  securityContext:
    {{- toYaml .Values.coordinator.securityContext | nindent 4 }}
{{- end }}
{{- with .Values.coordinator.initContainers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Pods prefer different nodes, and are spread over zones, unless the values say otherwise. */}}
{{- define "kahn.coordinator.placement" -}}
{{- $selector := include "kahn.selector" (list . "coordinator") | fromYaml -}}
{{- $affinity := dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict
  "weight" 100
  "podAffinityTerm" (dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $selector))))) -}}
{{- $spread := list (dict
  "maxSkew" 1
  "topologyKey" "topology.kubernetes.io/zone"
  "whenUnsatisfiable" "ScheduleAnyway"
  "labelSelector" (dict "matchLabels" $selector)) -}}
affinity:
  {{- toYaml (default $affinity .Values.coordinator.affinity) | nindent 2 }}
topologySpreadConstraints:
  {{- toYaml (default $spread .Values.coordinator.topologySpreadConstraints) | nindent 2 }}
{{- end -}}
