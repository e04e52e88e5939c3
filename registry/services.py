"""Promoting models, and moving their versions from stage to stage."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Max

from configurations import store
from registry.models import ModelStage, ModelVersion, RegisteredModel, VersionChange
from runs.access import CHANGING_ROLES
from runs.model_store import CHUNK_BYTES, model_path
from runs.models import ModelKind, Project, StoredModel

NAME_MAX_LENGTH = 120
NOTES_MAX_LENGTH = 4_000


class PromotionRefused(Exception):
    """The sentence says what to change."""


def model_promote(*, model: StoredModel, user: Any, name: str, stage: str, notes: str = "") -> ModelVersion:
    """Make a stored model the next version under a name in its project's registry.

    The bytes are copied: the version needs the run no more.

    Args:
        model: of a run in whose project ``user`` is an owner or a member.
        user: who promotes it.
        name: 1 to 120 characters; a new one makes a new entry.
        stage: one of ``ModelStage``. A version that goes to production takes the place of the one that is there.
        notes: what people should know, at most 4,000 characters.

    Raises:
        PromotionRefused: the user may not, a field is wrong, or the weights are not there.
    """
    project = model.run.project
    _check_member(project, user)
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX_LENGTH:
        raise PromotionRefused(f"A name has 1 to {NAME_MAX_LENGTH} characters.")
    chosen, notes = _stage(stage), _notes(notes)
    storage_name = f"registry/{project.pk}/{model.sha256}.safetensors"
    try:
        _bytes_copy(model, storage_name)
    except FileNotFoundError as error:
        raise PromotionRefused(
            "The weights of this model are not in the store, so that it cannot be promoted. Choose one that can be "
            "downloaded."
        ) from error
    with transaction.atomic():
        # The lock of the project's row makes the numbers of its versions count up without gaps.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        registered, _ = RegisteredModel.objects.get_or_create(project=project, name=name, defaults={"created_by": user})
        last = registered.versions.aggregate(last=Max("number"))["last"] or 0
        version = ModelVersion.objects.create(
            registered=registered,
            number=last + 1,
            stage=ModelStage.CANDIDATE,
            notes=notes,
            source=model,
            origin=_origin(model),
            sha256=model.sha256,
            size=model.size,
            metrics=model.metrics,
            storage_name=storage_name,
            created_by=user,
        )
        _note(version, user, f"made version {version.number} from {_origin(model)}")
        if chosen != ModelStage.CANDIDATE:
            _move(version, chosen, user)
    return version


def version_change(*, version: ModelVersion, user: Any, stage: str, notes: str) -> ModelVersion:
    """Move a version to a stage and write its notes.

    A version that goes to production takes the place of the one that is there, which is archived.

    Raises:
        PromotionRefused: the user may not, or a field is wrong.
    """
    _check_member(version.registered.project, user)
    chosen, notes = _stage(stage), _notes(notes)
    with transaction.atomic():
        RegisteredModel.objects.select_for_update(no_key=True).get(pk=version.registered_id)
        version.refresh_from_db()
        if notes != version.notes:
            version.notes = notes
            version.save(update_fields=["notes"])
            _note(version, user, "changed the notes")
        _move(version, chosen, user)
    return version


def _move(version: ModelVersion, stage: ModelStage, user: Any) -> None:
    if version.stage == stage:
        return
    if stage == ModelStage.PRODUCTION:
        for other in version.registered.versions.filter(stage=ModelStage.PRODUCTION):
            other.stage = ModelStage.ARCHIVED
            other.save(update_fields=["stage"])
            _note(other, user, f"archived it, since version {version.number} took its place")
    before = ModelStage(version.stage).label.lower()
    version.stage = stage
    version.save(update_fields=["stage"])
    _note(version, user, f"moved it from {before} to {stage.label.lower()}")


def _note(version: ModelVersion, user: Any, text: str) -> None:
    VersionChange.objects.create(version=version, user=user, text=text[:300])


def _bytes_copy(model: StoredModel, name: str) -> None:
    with model_path(model).open("rb") as source:
        chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
        file = store.temporary_file("model.safetensors", chunks, model.size, PromotionRefused("The model has grown."))
    try:
        store.put(file, name)
    finally:
        file.close()


def _origin(model: StoredModel) -> str:
    whose = "the aggregated model" if model.kind == ModelKind.AGGREGATED else f"the model of device {model.edge_id}"
    return f"{whose} of round {model.round_index + 1} of {model.run.name} (run {model.run_id})"


def _check_member(project: Project, user: Any) -> None:
    if project.role_of(user) not in CHANGING_ROLES:
        raise PromotionRefused("Only owners and members of the project may change its registry.")


def _stage(text: str) -> ModelStage:
    if text not in ModelStage.values:
        raise PromotionRefused(f"The stage is one of {', '.join(ModelStage.values)}.")
    return ModelStage(text)


def _notes(text: str) -> str:
    text = text.replace("\x00", " ").strip()
    if len(text) > NOTES_MAX_LENGTH:
        raise PromotionRefused(f"Notes have at most {NOTES_MAX_LENGTH} characters.")
    return text
