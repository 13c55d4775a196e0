{{- define "rowpost.fullname" -}}
{{- if contains "rowpost" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-rowpost" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "rowpost.selector" -}}
app.kubernetes.io/name: rowpost
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rowpost.labels" -}}
{{ include "rowpost.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "rowpost.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "rowpost.fullname" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* A program that runs as a Deployment. With: root, component, values, program, config (key of the ConfigMap), port, hosts and env (variables), more (ports). */}}
{{- define "rowpost.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "rowpost.fullname" $root }}-{{ .component }}
  labels:
    {{- include "rowpost.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  replicas: {{ .values.replicas }}
  # The new one stands by before the old one hands over.
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels:
      {{- include "rowpost.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    metadata:
      labels:
        {{- include "rowpost.selector" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
      annotations:
        # Another configuration is a rollout: what waits for a restart has it too.
        checksum/config: {{ .values.config | sha256sum }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "rowpost.serviceAccount" $root }}
      automountServiceAccountToken: false
      # Variables of a Service whose name begins with obx- would be taken for configuration, and refused.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{ toYaml . | nindent 8 }}
      {{- end }}
      # The secret's files belong to root: the group may read them.
      securityContext:
        {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: {{ .component }}
          image: {{ printf "%s:%s" $root.Values.image.repository ($root.Values.image.tag | default $root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [{{ .program }}]
          args: [--config, /etc/rowpost/{{ .config }}]
          securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          env:
            {{- range $name, $value := .env }}
            - {name: {{ $name }}, value: {{ $value | quote }}}
            {{- end }}
            # The kubelet asks the pod's address; a name would be refused.
            - {name: {{ .hosts }}, value: {{ printf "%s-%s" (include "rowpost.fullname" $root) .component | quote }}}
          ports:
            - {name: http, containerPort: {{ .port }}}
            {{- range $name, $port := .more }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5}
          # A sound standby is ready: a rollout waits until the new one works or stands by.
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 5}
          resources: {{ toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/rowpost, readOnly: true}
            - {name: secrets, mountPath: /run/secrets, readOnly: true}
      volumes:
        - name: config
          configMap: {name: {{ include "rowpost.fullname" $root }}, items: [{key: {{ .config }}, path: {{ .config }}}]}
        - name: secrets
          secret: {secretName: {{ $root.Values.secrets.existingSecret }}, defaultMode: 0440}
      {{- with .values.nodeSelector }}
      nodeSelector: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{ toYaml . | nindent 8 }}
      {{- end }}
      affinity:
        {{- if .values.affinity }}
        {{- toYaml .values.affinity | nindent 8 }}
        {{- else }}
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- include "rowpost.selector" $root | nindent 20 }}
                    app.kubernetes.io/component: {{ .component }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "rowpost.fullname" $root }}-{{ .component }}
  labels:
    {{- include "rowpost.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  selector:
    {{- include "rowpost.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
    {{- range $name, $port := .more }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
{{- if .values.podDisruptionBudget.enabled }}
---
# A drain of a node leaves one that works.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "rowpost.fullname" $root }}-{{ .component }}
  labels: {{- include "rowpost.labels" $root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "rowpost.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}
