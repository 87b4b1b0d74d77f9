{{/* The names of objects, and their labels and annotations. */}}

{{/* The common part of all names. At most 40 characters, to leave room for suffixes. */}}
{{- define "kahn.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kahn.coordinator.name" -}}{{ include "kahn.fullname" . }}-coordinator{{- end -}}

{{/* The headless Service that gives every coordinator a DNS name. */}}
{{- define "kahn.coordinator.headless" -}}{{ include "kahn.fullname" . }}-coordinators{{- end -}}

{{- define "kahn.redis.name" -}}{{ include "kahn.fullname" . }}-redis{{- end -}}

{{/* The name of a pool's objects. Takes (list root pool-name). */}}
{{- define "kahn.pool.name" -}}{{ include "kahn.fullname" (index . 0) }}-worker-{{ index . 1 }}{{- end -}}

{{/* The name of a service account. Takes (list settings name). */}}
{{- define "kahn.serviceAccountName" -}}
{{- $settings := index . 0 -}}
{{- default (ternary (index . 1) "default" $settings.create) $settings.name -}}
{{- end -}}

{{/* The labels that select the pods of a component. They never change. Takes (list root component). */}}
{{- define "kahn.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels that select the pods of a pool. Takes (list root pool-name). */}}
{{- define "kahn.pool.selector" -}}
{{ include "kahn.selector" (list (index . 0) "worker") }}
kahn/pool: {{ index . 1 | quote }}
{{- end -}}

{{/* The labels of an object. Takes (list root component). */}}
{{- define "kahn.labels" -}}
{{- $root := index . 0 -}}
{{ include "kahn.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The metadata of an object. Takes a dict: root, name, component; optional: pool, labels, annotations.
*/}}
{{- define "kahn.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "kahn.labels" (list .root .component) | nindent 2 }}
  {{- with .pool }}
  kahn/pool: {{ . | quote }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
