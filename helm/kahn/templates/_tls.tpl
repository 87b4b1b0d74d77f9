{{/* Certificates of the coordinators, the workers, the clients, the autoscaler and KEDA. */}}

{{/* The Secret with the certificate of `coordinator`, `worker`, `client`, `autoscaler` or `keda`. Takes (list root owner). */}}
{{- define "kahn.tls.secret" -}}
{{- $root := index . 0 -}}
{{- $owner := index . 1 -}}
{{- if eq $root.Values.tls.mode "existingSecrets" -}}
{{- default (get $root.Values.tls.existingSecrets "coordinator") (get $root.Values.tls.existingSecrets $owner) -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "kahn.fullname" $root) $owner -}}
{{- end -}}
{{- end -}}

{{/* The owners of certificates in this release, as YAML: servers, and those who must show one. */}}
{{- define "kahn.tls.owners" -}}
{{- $owners := dict
  "none" (list "coordinator")
  "workers" (list "coordinator" "worker")
  "required" (list "coordinator" "worker" "client") -}}
{{- $scaling := ternary (list "autoscaler" "keda") list (eq (include "kahn.autoscaler.exists" .) "true") -}}
{{- toYaml (concat (get $owners .Values.tls.clientAuth) $scaling) -}}
{{- end -}}

{{/* Whether an owner has a certificate: `true` or empty. Takes (list root owner). */}}
{{- define "kahn.tls.has" -}}
{{- if has (index . 1) (include "kahn.tls.owners" (index . 0) | fromYamlArray) }}true{{ end -}}
{{- end -}}

{{/* The DNS names of a certificate, as YAML. Takes (list root owner). */}}
{{- define "kahn.tls.dnsNames" -}}
{{- $root := index . 0 -}}
{{- $owner := index . 1 -}}
{{- $names := list (printf "%s-%s" (include "kahn.fullname" $root) $owner) -}}
{{- if eq $owner "coordinator" -}}
{{- $service := include "kahn.coordinator.name" $root -}}
{{- $headless := include "kahn.coordinator.headless" $root -}}
{{- $namespace := $root.Release.Namespace -}}
{{- $names = list
  $service
  (printf "%s.%s" $service $namespace)
  (printf "%s.%s.svc" $service $namespace)
  (printf "%s.%s.svc.cluster.local" $service $namespace)
  (printf "*.%s.%s.svc" $headless $namespace)
  (printf "*.%s.%s.svc.cluster.local" $headless $namespace)
  "localhost" -}}
{{- $names = concat $names $root.Values.tls.dnsNames -}}
{{- else if eq $owner "autoscaler" -}}
{{- $service := include "kahn.autoscaler.name" $root -}}
{{- $names = list $service (printf "%s.%s.svc" $service $root.Release.Namespace) -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* The IP addresses of a certificate, as YAML. Loopback is for `kubectl port-forward`. Takes (list root owner). */}}
{{- define "kahn.tls.ipAddresses" -}}
{{- if eq (index . 1) "coordinator" -}}
{{- toYaml (concat (list "127.0.0.1") (index . 0).Values.tls.ipAddresses) -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/*
The volume with the certificate of an owner, under the name `tls`. Workers and clients without a certificate only get that of the
authority. Takes (list root owner).
*/}}
{{- define "kahn.tls.volume" -}}
{{- $root := index . 0 -}}
{{- $owner := index . 1 -}}
{{- $has := include "kahn.tls.has" . -}}
- name: tls
  secret:
    secretName: {{ include "kahn.tls.secret" (list $root (ternary $owner "coordinator" (ne $has ""))) }}
    defaultMode: 0440
    items:
      - { key: ca.crt, path: ca.crt }
      {{- if $has }}
      - { key: tls.crt, path: tls.crt }
      - { key: tls.key, path: tls.key }
      {{- end }}
{{- end -}}
