{{/* Parts of pods that several components have. */}}

{{/* The scheduling and security of a pod. Takes (list root settings). */}}
{{- define "kahn.pod.settings" -}}
{{- with (index . 0).Values.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with index . 1 -}}
# Variables of Services, such as KAHN_COORDINATOR_PORT, would look like settings.
enableServiceLinks: false
securityContext:
  {{- toYaml .podSecurityContext | nindent 2 }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ int .terminationGracePeriodSeconds }}
{{- end -}}
{{- end -}}

{{/*
The labels and annotations of a pod. They do not name the version of the chart, so that an upgrade of the chart alone restarts
nothing. Takes a dict: root, component, settings, checksums; optional: pool.
*/}}
{{- define "kahn.pod.metadata" -}}
labels:
  {{- include "kahn.selector" (list .root .component) | nindent 2 }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .pool }}
  kahn/pool: {{ . | quote }}
  {{- end }}
  {{- with .settings.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- toYaml .checksums | nindent 2 }}
  {{- with .settings.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The probes of a coordinator or a worker. Neither restarts while it waits for others. */}}
{{- define "kahn.pod.probes" -}}
livenessProbe:
  httpGet: { path: /health, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /ready, port: health }
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* A variable with the value of a Secret's key. Takes (list variable secret key). */}}
{{- define "kahn.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef: { name: {{ index . 1 }}, key: {{ index . 2 }} }
{{- end -}}

{{/* The source of a volume. Values are merged, so that the default is still there beside another one. */}}
{{- define "kahn.volumeSource" -}}
{{- toYaml (ternary . (omit . "emptyDir") (eq (len .) 1)) -}}
{{- end -}}
