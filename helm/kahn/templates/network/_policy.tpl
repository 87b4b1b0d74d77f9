{{/* The rule that lets pods resolve names. */}}
{{- define "kahn.policy.dns" -}}
- ports:
    - { port: 53, protocol: UDP }
    - { port: 53, protocol: TCP }
{{- end -}}

{{/* The rule that lets Prometheus and KEDA read metrics. Takes (list root port). */}}
{{- define "kahn.policy.metrics" -}}
- from:
    {{- toYaml (default (list (dict "namespaceSelector" dict)) (index . 0).Values.networkPolicy.metrics) | nindent 4 }}
  ports:
    - { port: {{ index . 1 }}, protocol: TCP }
{{- end -}}

{{/* Ports as in a NetworkPolicy. Takes a list of numbers. */}}
{{- define "kahn.policy.ports" -}}
{{- range . }}
- { port: {{ int . }}, protocol: TCP }
{{- end }}
{{- end -}}

{{/* The port of the collector of traces: that of the URL, or 4317. */}}
{{- define "kahn.policy.otlpPort" -}}
{{- regexFind "[0-9]+" (default ":4317" (regexFind ":[0-9]+" .Values.telemetry.otlpEndpoint)) -}}
{{- end -}}
