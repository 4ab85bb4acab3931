{{- define "afterclick.name" -}}
{{- if contains "afterclick" .Release.Name -}}{{ .Release.Name }}{{- else -}}{{ .Release.Name }}-afterclick{{- end -}}
{{- end }}

{{/* The labels that select the pods of a part. Takes {root, part}. */}}
{{- define "afterclick.selector" -}}
app.kubernetes.io/name: afterclick
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "afterclick.labels" -}}
{{ include "afterclick.selector" . }}
app.kubernetes.io/part-of: {{ include "afterclick.name" .root }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "afterclick.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- define "afterclick.secret" -}}
{{- if .Values.secrets.existing }}{{ .Values.secrets.existing }}{{ else if .Values.secrets.create }}{{ include "afterclick.name" . }}{{ end -}}
{{- end }}

{{/* The environment of every container. Takes the root. */}}
{{- define "afterclick.environment" -}}
- name: AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS
  value: {{ .Values.kafka.bootstrapServers | quote }}
- name: AFTERCLICK_KAFKA__GROUP_ID
  value: {{ .Values.kafka.groupId | quote }}
- name: AFTERCLICK_KAFKA__PARTITIONS
  value: {{ .Values.kafka.partitions | quote }}
- name: AFTERCLICK_KAFKA__REPLICATION_FACTOR
  value: {{ .Values.kafka.replicationFactor | quote }}
- name: AFTERCLICK_KAFKA__CREATE_TOPICS
  value: {{ .Values.kafka.createTopics | quote }}
- name: AFTERCLICK_TOPIC_PREFIX
  value: {{ .Values.kafka.topicPrefix | quote }}
- name: AFTERCLICK_GRACE_S
  value: {{ .Values.graceSeconds | quote }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* What all pods have in common, without containers. Takes {root, part}. */}}
{{- define "afterclick.pod" -}}
{{- $values := index .root.Values .part -}}
serviceAccountName: {{ include "afterclick.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "afterclick.selector" $ | nindent 8 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all containers have in common. Takes {root, part}. */}}
{{- define "afterclick.container" -}}
image: {{ include "afterclick.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- with include "afterclick.secret" .root }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
volumeMounts:
  - {name: data, mountPath: /var/lib/afterclick}
  - {name: tmp, mountPath: /tmp}
{{- if .root.Values.secrets.files }}
  - {name: files, mountPath: /etc/afterclick/secrets, readOnly: true}
{{- end }}
{{- if .root.Values.models.claim }}
  - {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end }}

{{- define "afterclick.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .Values.secrets.files }}
- name: files
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .Values.models.claim }}
- name: models
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Takes {port}: alive from the start on, ready once lists are fresh; a restore may take as long as it needs. */}}
{{- define "afterclick.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /livez, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
