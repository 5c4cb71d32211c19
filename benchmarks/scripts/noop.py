"""The web framework alone: a route that reads a request and answers with the same few bytes. Port: first argument."""

import sys

import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> dict[str, int]:
    """Answer without having done anything."""
    await request.body()
    return {"prediction": 0}


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Tell that it answers."""
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
