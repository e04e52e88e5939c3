"""Forms of groups and of those who are invited into them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.db.models import QuerySet

from groups.models import Group
from runs.models import Role


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name and description of a group."""

    class Meta:
        model = Group
        fields = ["name", "description"]
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
        help_texts = {"description": "What brings these people together. Shown to the members."}


class NewGroupForm(GroupForm):
    """A new group, and which collaborators are in it from the start."""

    people = forms.ModelMultipleChoiceField(
        User.objects.none(), required=False, widget=forms.CheckboxSelectMultiple, label="Collaborators"
    )

    def __init__(self, *args: Any, collaborators: QuerySet[User], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["people"].queryset = collaborators  # type: ignore[attr-defined]


class GroupRoleForm(forms.Form):
    """A role in a group."""

    role = forms.ChoiceField(choices=Role)


class GroupMemberForm(GroupRoleForm):
    """A collaborator to add."""

    person = forms.ModelChoiceField(User.objects.none(), empty_label="Choose a person")

    def __init__(self, *args: Any, collaborators: QuerySet[User], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["person"].queryset = collaborators  # type: ignore[attr-defined]
        self.fields["role"].initial = Role.MEMBER


class InvitationForm(forms.Form):
    """What an invitation gives, how long it is good and how many it lets in."""

    role = forms.ChoiceField(choices=Role, initial=Role.MEMBER, label="They become")
    days = forms.TypedChoiceField(
        coerce=int, choices=[(1, "1 day"), (7, "7 days"), (30, "30 days")], initial=7, label="Good for"
    )
    people = forms.IntegerField(min_value=1, max_value=200, initial=1, label="How many people")


class TokenForm(forms.Form):
    """The token of a link, as the page's script or a person gives it."""

    token = forms.CharField(max_length=500, label="Invitation link")

    def clean_token(self) -> str:
        """What stands behind the ``#`` of a link, or the whole."""
        return str(self.cleaned_data["token"]).rpartition("#")[2].strip()


class InvitedAccountForm(UserCreationForm):  # type: ignore[type-arg]
    """The account of a person who was invited."""

    class Meta(UserCreationForm.Meta):
        fields = ("username", "email")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"
        self.fields["email"].required = False
        self.fields["email"].help_text = "Optional."
