{{- define "tango.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tango.imageOf" -}}
{{- $image := index . 0 }}{{ $root := index . 1 -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "tango.selector" -}}
app.kubernetes.io/name: tango
app.kubernetes.io/instance: {{ (index . 1).Release.Name }}
app.kubernetes.io/component: {{ index . 0 }}
{{- end }}

{{- define "tango.labels" -}}
{{ include "tango.selector" . }}
app.kubernetes.io/version: {{ (index . 1).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 1).Release.Service }}
helm.sh/chart: {{ (index . 1).Chart.Name }}-{{ (index . 1).Chart.Version }}
{{- end }}

{{/* Labels and annotations of a pod: [component, root]. */}}
{{- define "tango.podMetadata" -}}
labels:
  {{- include "tango.labels" . | nindent 2 }}
  {{- with (index . 1).Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with (index . 1).Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every pod's spec begins with: nothing of Kubernetes in it but what it asks for. */}}
{{- define "tango.podSpec" -}}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* As Pod Security "restricted" wants it; the image's own user. */}}
{{- define "tango.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # Else the kubelet opens every file to the group at each mount, and PostgreSQL refuses a data folder that others may enter.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "tango.container" -}}
image: {{ include "tango.imageOf" (list .Values.image .) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "tango.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
- name: TANGO_KUBE_NAMESPACE
  value: {{ .Release.Namespace }}
- name: TANGO_KUBE_WORKLOAD_IMAGE
  value: {{ include "tango.imageOf" (list .Values.workloadImage .) }}
- name: TANGO_KUBE_IMAGE_PULL_POLICY
  value: {{ .Values.image.pullPolicy }}
{{- with .Values.image.pullSecrets }}
- name: TANGO_KUBE_IMAGE_PULL_SECRETS
  value: {{ join "," . | quote }}
{{- end }}
{{- if .Values.priorityClasses.create }}
- name: TANGO_KUBE_LC_PRIORITY_CLASS
  value: {{ .Values.priorityClasses.latencyCritical.name }}
- name: TANGO_KUBE_BE_PRIORITY_CLASS
  value: {{ .Values.priorityClasses.bestEffort.name }}
{{- end }}
{{- end }}

{{/* A variable from a Secret: [variable, secret, key, optional]. */}}
{{- define "tango.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
      {{- if index . 3 }}
      optional: true
      {{- end }}
{{- end }}

{{/* Probes by what a process says of its own loops (workers/health.py): [role, seconds in which it may begin]. Compiled code is in the
image, so that a start takes seconds; where it does not fit the processor, minutes. */}}
{{- define "tango.probes" -}}
startupProbe:
  exec:
    command: [python, -m, workers.health, {{ index . 0 }}]
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: {{ div (index . 1) 5 }}
livenessProbe:
  exec:
    command: [python, -m, workers.health, {{ index . 0 }}]
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  exec:
    command: [python, -m, workers.health, {{ index . 0 }}, --ready]
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
{{- end }}

{{- define "tango.centreSecret" -}}
{{- if .Values.centre.trial.enabled }}{{ include "tango.name" . }}-trial{{ else }}{{ required "centre.secret: name a Secret with database-url, owner-url, broker-url and flower-login, or set centre.trial.enabled" .Values.centre.secret }}{{ end }}
{{- end }}

{{- define "tango.clusterName" -}}
{{- required "cluster.name: as which this cluster joins" .Values.cluster.name }}
{{- end }}

{{- define "tango.clusterSecret" -}}
{{- required "cluster.secret: name a Secret with database-url, by which this cluster reaches the centre" .Values.cluster.secret }}
{{- end }}

{{/* Where the processes of a pod count, for the container beside them. */}}
{{- define "tango.counts" -}}
{{- if .Values.metrics.enabled }}
- {name: TANGO_METRICS_DIR, value: /run/tango/metrics}
{{- end }}
{{- end }}

{{/* The container that serves the figures of a pod's processes: [root, further arguments, further variables]. */}}
{{- define "tango.metrics" -}}
{{- $root := index . 0 }}
- name: metrics
  {{- include "tango.container" $root | nindent 2 }}
  args: {{ toJson (concat (list "python" "-m" "workers.metrics" "--host" "0.0.0.0" "--port" ($root.Values.metrics.port | toString)) (index . 1)) }}
  env:
    {{- include "tango.settings" $root | nindent 4 }}
    {{- include "tango.counts" $root | nindent 4 }}
    {{- with index . 2 }}
    {{- . | nindent 4 }}
    {{- end }}
  ports:
    - {name: metrics, containerPort: {{ $root.Values.metrics.port }}}
  {{- include "tango.probes" (list "metrics" 300) | nindent 2 }}
  resources:
    {{- toYaml $root.Values.metrics.resources | nindent 4 }}
  volumeMounts:
    - {name: health, mountPath: /run/tango}
    - {name: scratch, mountPath: /tmp}
    - {name: scratch, mountPath: /var/lib/tango, subPath: metrics}
{{- end }}
