{{/* Bind a ClusterRole in each served namespace, or in the whole cluster for "*":
     (dict "root" $ "role" "namespace" "account" "name" "annotations" ""). */}}
{{- define "tidegate.bindings" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "tidegate.fullname" $root) .role -}}
{{- $account := .account -}}
{{- $annotations := .annotations -}}
{{- $clusterwide := include "tidegate.clusterwide" $root -}}
{{- range $namespace := $root.Values.namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "ClusterRoleBinding" "RoleBinding" (eq $clusterwide "true") }}
metadata:
  name: {{ $name }}
  {{- if not $clusterwide }}
  namespace: {{ $namespace }}
  {{- end }}
  labels:
    {{- include "tidegate.labels" $root | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $account }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* Annotations of a hook that runs before the release is uninstalled: (dict "weight" "0"). */}}
{{- define "tidegate.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
