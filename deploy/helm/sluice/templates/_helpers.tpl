{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
{{- end }}

{{- define "sluice.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* Where the kubelet asks for the agent's health: what it listens on, or the loopback if that is everything. */}}
{{- define "sluice.livez" -}}
{{- $address := .Values.config.kubeProxy.healthzBindAddress -}}
{{- $host := regexReplaceAll ":[0-9]+$" $address "" | trimAll "[]" -}}
path: /livez
port: {{ regexFind "[0-9]+$" $address }}
host: {{ get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $host | default $host | quote }}
{{- end }}
