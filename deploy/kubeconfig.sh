#!/bin/sh
# Prints a kubeconfig with which the centre reaches an edge cluster as Tango's service account: deploy/kubeconfig.sh CONTEXT NAME [HOURS]
#
# CONTEXT is yours, of the edge cluster; NAME is that under which it joins. The token ends after HOURS (720): run this again before, and
# put the file in the place of the old one; Tango reads it again by itself. SERVER names another address than your own context's, as the
# centre reaches it; NAMESPACE another namespace than tango.
set -eu
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
context=$1 name=$2 hours=${3:-720} namespace=${NAMESPACE:-tango}
of_context() { kubectl config view --raw --minify --flatten --context "$context" -o "jsonpath={.clusters[0].cluster.$1}"; }
server=${SERVER:-$(of_context server)}
authority=$(of_context certificate-authority-data)
token=$(kubectl --context "$context" --namespace "$namespace" create token tango --duration "${hours}h")
[ -n "$server" ] && [ -n "$token" ] || { echo "kubeconfig.sh: context $context has no server, or gave no token" >&2; exit 1; }
cat <<END
apiVersion: v1
kind: Config
current-context: $name
clusters:
- name: $name
  cluster: {server: "$server"${authority:+, certificate-authority-data: $authority}}
users:
- name: tango
  user: {token: "$token"}
contexts:
- name: $name
  context: {cluster: $name, user: tango, namespace: $namespace}
END
