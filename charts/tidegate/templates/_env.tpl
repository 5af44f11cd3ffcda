{{/* The operator's settings: one variable each, as in tidegate/settings.py. */}}
{{- define "tidegate.operatorEnv" -}}
- name: TIDEGATE_NAMESPACES
  value: {{ join "," .Values.namespaces | quote }}
- name: TIDEGATE_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: TIDEGATE_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: TIDEGATE_LEASE_NAME
  value: {{ include "tidegate.fullname" . }}
- name: TIDEGATE_LEASE_DURATION_SECONDS
  value: {{ .Values.operator.lease.durationSeconds | quote }}
- name: TIDEGATE_LEASE_RENEW_DEADLINE_SECONDS
  value: {{ .Values.operator.lease.renewDeadlineSeconds | quote }}
- name: TIDEGATE_LEASE_RETRY_SECONDS
  value: {{ .Values.operator.lease.retrySeconds | quote }}
- name: TIDEGATE_WORKERS
  value: {{ .Values.operator.workers | quote }}
- name: TIDEGATE_RUNNER_IMAGE
  value: {{ include "tidegate.image" (dict "root" . "image" .Values.operator.runnerImage) }}
- name: TIDEGATE_IMAGE_PULL_POLICY
  value: {{ .Values.operator.runnerImage.pullPolicy }}
{{- if .Values.gateway.upstream }}
- name: TIDEGATE_GATEWAY_URL
  value: http://{{ include "tidegate.fullname" . }}-gateway.{{ .Release.Namespace }}.svc:{{ .Values.gateway.port }}
- name: TIDEGATE_GATEWAY_NAMESPACE
  value: {{ .Release.Namespace }}
{{- end }}
- name: TIDEGATE_DEFAULT_AGENT_CLASS
  value: {{ .Values.operator.defaults.agentClass }}
- name: TIDEGATE_DEFAULT_PLANNER_CLASS
  value: {{ .Values.operator.defaults.plannerClass }}
- name: TIDEGATE_DEFAULT_GATE_PROFILE
  value: {{ .Values.operator.defaults.gateProfile }}
- name: TIDEGATE_GATE_PROFILE_BY_ROLE
  value: {{ toJson .Values.operator.defaults.gateProfileByRole | quote }}
- name: TIDEGATE_POD_RETENTION_SECONDS
  value: {{ .Values.operator.podRetentionSeconds | quote }}
- name: TIDEGATE_MAX_PODS_PER_NAMESPACE
  value: {{ .Values.operator.maxPodsPerNamespace | quote }}
- name: TIDEGATE_ALLOWED_GIT_HOSTS
  value: {{ join "," .Values.git.allowedHosts | quote }}
- name: TIDEGATE_ALLOWED_HTTP_HOSTS
  value: {{ join "," .Values.git.allowedHttpHosts | quote }}
- name: TIDEGATE_GIT_EGRESS
  value: {{ toJson .Values.git.egress | quote }}
- name: TIDEGATE_MIRROR_DIR
  value: /var/cache/tidegate/mirrors
- name: TIDEGATE_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
- name: TIDEGATE_LOG_LEVEL
  value: {{ .Values.operator.logLevel }}
- name: TIDEGATE_LOG_FORMAT
  value: {{ .Values.operator.logFormat }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
