#!/bin/sh
# After a release: what was put on this machine is there.
test "$(cat current)" = "$DEPLOY_VERSION"
