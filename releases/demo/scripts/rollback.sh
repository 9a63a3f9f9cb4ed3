#!/bin/sh
# Puts DEPLOY_PREVIOUS_VERSION back on this machine; nothing, when it had none ("-" in releases.log).
set -eu
echo "$DEPLOY_RUN" >>begun.log
echo "$DEPLOY_MACHINE: $DEPLOY_BUSINESS goes back to ${DEPLOY_PREVIOUS_VERSION:-nothing}"
sleep "$(cat pace 2>/dev/null || echo 0)"
if [ -n "$DEPLOY_PREVIOUS_VERSION" ]; then
  echo "$DEPLOY_PREVIOUS_VERSION" >.current.new
  mv .current.new current
else
  rm -f current
fi
echo "$DEPLOY_RUN $DEPLOY_ACTION ${DEPLOY_PREVIOUS_VERSION:--} $DEPLOY_JOB $DEPLOY_STAGE" >>releases.log
echo "${DEPLOY_PREVIOUS_VERSION:-nothing} is in service"
