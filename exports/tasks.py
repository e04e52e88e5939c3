"""The task that copies a run to an MLflow server."""

from __future__ import annotations

from celery import shared_task
from django.db.models import Sum

from exports.mlflow import ExportFailed, export_send
from exports.models import ExportState, MlflowExport

SEND = "exports.tasks.mlflow_send"


@shared_task(name=SEND)
def mlflow_send(*, export_id: int) -> None:
    """Copy a run, from where an earlier worker left off: sending again what was sent changes nothing."""
    related = ("run__project", "run__server_package", "run__client_package")
    export = MlflowExport.objects.select_related(*related).filter(pk=export_id).first()
    if export is None or export.state in (ExportState.DONE, ExportState.FAILED):
        return
    mine = MlflowExport.objects.filter(pk=export_id)
    total = export.run.series.aggregate(total=Sum("count"))["total"] or 0
    mine.update(state=ExportState.SENDING, points_total=total)
    try:
        export_send(export)
    except ExportFailed as error:
        mine.update(state=ExportState.FAILED, problem=str(error), token="")
    else:
        mine.update(state=ExportState.DONE, problem="", token="")
