"""Asks the Service again and again: who answers.

    client.py URL COUNT     one request after the other, a line of JSON for each
    client.py URL load      four at once, until standard input ends; then one line for all
"""

import collections
import json
import sys
import threading
import time

import requests


def ask(url):
    # No session: each request is a connection of its own, so each chooses a pod anew.
    try:
        answer = requests.get(url, timeout=10)
        answer.raise_for_status()
        return answer.json()
    except requests.RequestException as error:
        return {"error": str(error)}


def load(url):
    answered, failed, over = collections.Counter(), [], threading.Event()

    def client():
        while not over.is_set():
            got = ask(url)
            if "error" in got:
                failed.append(got["error"])
            else:
                answered[got["pod"]] += 1
            time.sleep(0.05)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in clients:
        thread.join()
    return {"answered": answered, "failed": failed}


url, how = sys.argv[1:]
if how == "load":
    print(json.dumps(load(url)))
else:
    for _ in range(int(how)):
        print(json.dumps(ask(url)), flush=True)
