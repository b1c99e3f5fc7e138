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

{{/* The fields of kube-proxy's document. Who the pod is and where its API server is, it knows from its account. */}}
{{- define "sluice.kubeProxy" -}}
{{- $fields := omit .Values.config.kubeProxy "apiVersion" "kind" -}}
{{- with $fields.clientConnection -}}
{{- $fields = set $fields "clientConnection" (omit . "kubeconfig") -}}
{{- end -}}
{{- with $fields }}{{- toYaml . }}{{- end }}
{{- end }}

{{/* Where the kubelet asks for the agent's health: what it listens on, or the loopback if that is everything. */}}
{{- define "sluice.livez" -}}
{{- $address := .Values.config.kubeProxy.healthzBindAddress | default "0.0.0.0" -}}
{{- if regexMatch "^[0-9.]+$|^[^\\[]*:.*:" $address -}}
{{- $address = printf "[%s]:10256" $address -}}
{{- end -}}
{{- $host := regexReplaceAll ":[0-9]+$" $address "" | trimAll "[]" -}}
path: /livez
port: {{ regexFind "[0-9]+$" $address }}
host: {{ get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $host | default $host | quote }}
{{- end }}
