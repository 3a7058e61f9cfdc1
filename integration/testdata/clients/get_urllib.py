# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

import sys
import urllib.error
import urllib.request

try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=20)
except urllib.error.HTTPError as refusal:
    answer = refusal
print("status:", answer.status)
print("decision:", answer.headers.get("Egret-Decision"))
print(answer.read().decode())
