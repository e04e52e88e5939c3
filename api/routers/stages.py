"""Stages of a run's pipeline."""

from __future__ import annotations

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router

from api.auth import READ, RUN, user_of
from api.routers.runs import StageOut, stages_out
from api.schemas import Id
from runs import lifecycle
from runs.access import run_for_change, run_for_user
from runs.models import StageName

router = Router()


@router.get("/runs/{run_id}/stages", auth=READ, response=list[StageOut], summary="List a run's stages")
def stage_list(request: HttpRequest, run_id: Id) -> list[StageOut]:
    """They are made when the run starts."""
    return stages_out(run_for_user(user_of(request), run_id))


@router.post("/runs/{run_id}/stages/{name}/retry", auth=RUN, response=list[StageOut], summary="Try a stage again")
def stage_retry(request: HttpRequest, run_id: Id, name: StageName) -> list[StageOut]:
    """A failed stage and those after it; the run is STARTING again."""
    user = user_of(request)
    run = run_for_change(user, run_id)
    lifecycle.stage_retry(stage=get_object_or_404(run.stages, name=name.value), user=user)
    return stages_out(run_for_user(user, run_id))
