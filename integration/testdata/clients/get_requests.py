# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

import sys

import requests

answer = requests.get(sys.argv[1], timeout=20)
print("status:", answer.status_code)
print("decision:", answer.headers.get("Egret-Decision"))
print(answer.text)
