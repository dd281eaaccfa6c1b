"""docker-py doing one piece of work: engine-docker-py.py WORK SOCKET [ARGUMENT]"""

import concurrent.futures
import json
import sys
import time

import docker

work, socket = sys.argv[1:3]
argument = sys.argv[3] if len(sys.argv) > 3 else ""
client = docker.APIClient(base_url=f"unix://{socket}", version="auto", timeout=600)


def pings():
    for _ in range(10_000):
        client.ping()
    return 10_000


def archive():
    container, path = argument.split(":")
    stream, _ = client.get_archive(container, path)
    return sum(len(chunk) for chunk in stream)


def stats():
    running = [container["Id"] for container in client.containers()]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return len(list(pool.map(lambda id: client.stats(id, stream=False, one_shot=True), running)))


works = {
    "list": lambda: len(client.containers(all=True)),
    "pings": pings,
    "logs": lambda: sum(1 for _ in client.logs(argument, stream=True, follow=True)),
    "archive": archive,
    "stats": stats,
}
used, began = time.process_time(), time.perf_counter()
count = works[work]()
wall, processor = time.perf_counter() - began, time.process_time() - used
print(json.dumps({"wall": [wall * 1e3], "processor": [processor * 1e3], "count": count}))
