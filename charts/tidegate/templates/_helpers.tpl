{{/* The release's name, the chart's name in it once. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "tidegate" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidegate" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "tidegate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tidegate
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that select the Pods of a component: (dict "root" $ "component" "operator"). The operator lets agents out to
     Pods with name and component of the gateway, so these don't depend on the release. */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image's name: (dict "root" $ "image" .Values.operator.image). */}}
{{- define "tidegate.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where Pods go: (dict "root" $ "values" .Values.operator "component" "operator"). */}}
{{- define "tidegate.scheduling" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tidegate.selector" . | nindent 8 }}
  {{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The service account of a component: (dict "root" $ "values" .Values.operator "suffix" ""). */}}
{{- define "tidegate.serviceAccountName" -}}
{{- .values.serviceAccount.name | default (printf "%s%s" (include "tidegate.fullname" .root) .suffix) -}}
{{- end -}}

{{- define "tidegate.operatorAccount" -}}
{{- include "tidegate.serviceAccountName" (dict "root" . "values" .Values.operator "suffix" "") -}}
{{- end -}}

{{- define "tidegate.gatewayAccount" -}}
{{- include "tidegate.serviceAccountName" (dict "root" . "values" .Values.gateway "suffix" "-gateway") -}}
{{- end -}}

{{/* "true" where all namespaces are served. */}}
{{- define "tidegate.clusterwide" -}}
{{- if has "*" .Values.namespaces -}}
{{- if gt (len .Values.namespaces) 1 -}}
{{- fail "namespaces: * stands alone: name namespaces or * but not both" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- define "tidegate.crdAnnotations" -}}
{{- if .Values.crds.keep }}
helm.sh/resource-policy: keep
{{ end -}}
{{- with .Values.crds.annotations }}
{{- toYaml . }}
{{ end -}}
{{- end -}}

{{/* The port of the model provider's URL. */}}
{{- define "tidegate.upstreamPort" -}}
{{- $url := urlParse .Values.gateway.upstream -}}
{{- $host := regexReplaceAll "^.*@" $url.host "" -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- regexFind "[0-9]+$" $host -}}
{{- else if eq $url.scheme "http" -}}
80
{{- else -}}
443
{{- end -}}
{{- end -}}

{{/* The security context of our containers: Pod Security `restricted`. */}}
{{- define "tidegate.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
