"""The web application of the tutorial: each answer says which pod gave it and which client it saw."""

import os
import socket

from fastapi import FastAPI, Request, Response

POD = os.environ.get("POD_NAME", socket.gethostname())

app = FastAPI(title="python-api")
app.state.ready = True


@app.get("/api/data")
async def data(request: Request):
    return {"pod": POD, "client": request.client.host, "data": [1, 2, 3]}


@app.get("/ready")
async def ready():
    """What the readiness probe asks: 503 takes this pod out of its Services, while it goes on running."""
    return Response(status_code=200 if app.state.ready else 503)


@app.put("/ready/{state}")
async def set_ready(state: bool):
    app.state.ready = state
    return {"pod": POD, "ready": state}
