# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""Puts the credential into each request, and leads every connection to the origin."""


class Inject:
    def http_connect(self, flow):
        flow.request.host, flow.request.port = "{{.Origin}}".rsplit(":", 1)[0], int("{{.Origin}}".rsplit(":", 1)[1])

    def requestheaders(self, flow):  # before the body, which is streamed
        flow.request.headers["authorization"] = "Bearer {{.Token}}"


addons = [Inject()]
