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

{{/* Annotations of a hook: (dict "when" "pre-delete" "weight" "0"). */}}
{{- define "tidegate.hook" -}}
helm.sh/hook: {{ .when }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The Pod of a hook's Job, up to its container's command: (dict "root" $ "name" "uninstall" "account" "name"). */}}
{{- define "tidegate.hookPod" -}}
metadata:
  labels:
    {{- include "tidegate.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  serviceAccountName: {{ .account }}
  {{- include "tidegate.imagePullSecrets" .root | nindent 2 }}
  restartPolicy: Never
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .name }}
      image: {{ include "tidegate.image" (dict "root" .root "image" .root.Values.operator.image) }}
      imagePullPolicy: {{ .root.Values.operator.image.pullPolicy }}
      resources:
        requests: {cpu: 50m, memory: 96Mi, ephemeral-storage: 16Mi}
        limits: {memory: 256Mi, ephemeral-storage: 64Mi}
      securityContext:
        {{- include "tidegate.restrictedContainer" .root | nindent 8 }}
{{- end -}}
