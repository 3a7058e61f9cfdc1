# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

import asyncio
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(sys.argv[1]) as answer:
            print("status:", answer.status)
            print("decision:", answer.headers.get("Egret-Decision"))
            print(await answer.text())


asyncio.run(main())
