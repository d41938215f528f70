{{- define "kubesiren.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kubesiren.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "kubesiren.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kubesiren.selector" -}}
app.kubernetes.io/name: {{ include "kubesiren.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kubesiren.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "kubesiren.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "kubesiren.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kubesiren.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kubesiren.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "kubesiren.tlsSecret" -}}
{{- default (printf "%s-tls" (include "kubesiren.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "kubesiren.canarySecret" -}}
{{- default (printf "%s-canary" (include "kubesiren.fullname" .)) .Values.canary.existingSecret -}}
{{- end -}}

{{- define "kubesiren.sinksSecret" -}}
{{- default (printf "%s-sinks" (include "kubesiren.fullname" .)) .Values.secrets.existingSecret -}}
{{- end -}}

{{/* The canary shows a certificate where the webhook demands one. */}}
{{- define "kubesiren.canaryCertificate" -}}
{{- if and .Values.canary.enabled .Values.webhook.enabled .Values.webhook.clientCertificates.enabled }}true{{ end -}}
{{- end -}}

{{/* What cannot work, said before it is tried. */}}
{{- define "kubesiren.check" -}}
{{- if not .Values.cluster -}}
{{- fail "set `cluster`: the name that alerts give this cluster" -}}
{{- end -}}
{{- if .Values.webhook.enabled -}}
{{- if and (not .Values.tls.existingSecret) (not .Values.tls.certManager.enabled) -}}
{{- fail "the webhook needs a certificate: name a Secret in `tls.existingSecret`, or set `tls.certManager.enabled`" -}}
{{- end -}}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.enabled -}}
{{- fail "`tls.existingSecret` and `tls.certManager.enabled` exclude each other" -}}
{{- end -}}
{{- if and (not .Values.webhook.clientCertificates.enabled) (not .Values.webhook.token.existingSecret) -}}
{{- fail "whoever can send events can forge them: keep `webhook.clientCertificates.enabled`, or name a Secret in `webhook.token.existingSecret`" -}}
{{- end -}}
{{- else if not .Values.config.sources -}}
{{- fail "without the webhook there is no source: give one in `config.sources`" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "name the authority in `tls.certManager.issuerRef.name`" -}}
{{- end -}}
{{- if .Values.canary.enabled -}}
{{- if not .Values.webhook.enabled -}}
{{- fail "the canary goes through the webhook, which is off" -}}
{{- end -}}
{{- $made := and .Values.tls.certManager.enabled (not .Values.webhook.clientCertificates.existingSecret) -}}
{{- if and (include "kubesiren.canaryCertificate" .) (not .Values.canary.existingSecret) (not $made) -}}
{{- fail "the canary needs a client certificate by the authority of the senders: name a Secret in `canary.existingSecret`" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.secrets.existingSecret .Values.secrets.values -}}
{{- fail "`secrets.existingSecret` and `secrets.values` exclude each other" -}}
{{- end -}}
{{- end -}}

{{/* The webhook as an item of `sources`. */}}
{{- define "kubesiren.webhook" -}}
type: webhook
listen: {{ printf "%s:9765" .Values.webhook.address | quote }}
tls:
  cert: /tls/tls.crt
  key: /tls/tls.key
  {{- if .Values.webhook.clientCertificates.enabled }}
  client_ca: {{ ternary "/client-ca/ca.crt" "/tls/ca.crt" (not (empty .Values.webhook.clientCertificates.existingSecret)) }}
  {{- end }}
{{- if .Values.webhook.token.existingSecret }}
bearer_token_file: /token/token
{{- end }}
{{- end -}}

{{/* The daemon's whole configuration. */}}
{{- define "kubesiren.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $sources := default list $config.sources -}}
{{- if .Values.webhook.enabled -}}
{{- $sources = prepend $sources (include "kubesiren.webhook" . | fromYaml) -}}
{{- end -}}
{{- $detections := default dict $config.detections -}}
{{- $paths := default list $detections.paths -}}
{{- if .Values.rules.files -}}
{{- $paths = append $paths "/rules/own" -}}
{{- end -}}
{{- range .Values.rules.existingConfigMaps -}}
{{- $paths = append $paths (printf "/rules/%s" .) -}}
{{- end -}}
{{- if $paths -}}
{{- $_ := set $config "detections" (set $detections "paths" $paths) -}}
{{- end -}}
{{- $admin := merge (dict "listen" (printf "%s:9766" .Values.webhook.address) "insecure" true) (default dict $config.admin) -}}
{{- $config = merge (dict "cluster" .Values.cluster "state_dir" "/var/lib/kubesiren" "sources" $sources "admin" $admin) $config -}}
{{- if .Values.canary.enabled -}}
{{- $canary := dict "every" .Values.canary.every -}}
{{- if include "kubesiren.canaryCertificate" . -}}
{{- $canary = merge $canary (dict "client_cert" "/canary/tls.crt" "client_key" "/canary/tls.key") -}}
{{- end -}}
{{- $_ := set $config "canary" $canary -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
