# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

import sys

import httpx

with httpx.Client(http2=sys.argv[2] == "h2", timeout=20) as client:
    answer = client.get(sys.argv[1])
print("status:", answer.status_code)
print("decision:", answer.headers.get("Egret-Decision"))
print(answer.text)
