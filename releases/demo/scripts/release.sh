#!/bin/sh
# Puts DEPLOY_VERSION on this machine: `current` says what is there now, `releases.log` how it came there, and
# `begun.log` what else was tried.
set -eu
echo "$DEPLOY_RUN" >>begun.log
pace=$(cat pace 2>/dev/null || echo 0)  # seconds for each step here: no two machines are equally fast
echo "$DEPLOY_MACHINE: $DEPLOY_BUSINESS $DEPLOY_VERSION comes, ${DEPLOY_PREVIOUS_VERSION:-nothing} goes"
for step in fetch unpack stop start; do
  echo "$step"
  sleep "$pace"
done
if [ -e broken ]; then
  echo "$DEPLOY_BUSINESS does not start: remove the file \"broken\" from this machine's home" >&2
  exit 1
fi
echo "$DEPLOY_VERSION" >.current.new
mv .current.new current
echo "$DEPLOY_RUN $DEPLOY_ACTION $DEPLOY_VERSION $DEPLOY_JOB $DEPLOY_STAGE" >>releases.log
echo "$DEPLOY_VERSION is in service"
