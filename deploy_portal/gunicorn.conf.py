"""How gunicorn serves the portal: `gunicorn --config deploy_portal/gunicorn.conf.py deploy_portal.wsgi`."""

control_socket_disable = True
# Else whoever asks says by SCRIPT_NAME how much of the path is not the portal's, past the rules of a proxy for /admin/.
forwarder_headers = ""
