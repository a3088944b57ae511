"""The pages of the office."""

from django.forms import modelform_factory
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from office.models import Claim

ClaimForm = modelform_factory(Claim, fields=("text", "cents"))


def claims(request: HttpRequest) -> HttpResponse:
    """Show the claims of who is logged in, and file a new one."""
    form = ClaimForm(request.POST or None)
    if form.is_valid():
        form.instance.employee = request.user
        form.save()
        return redirect("claims")
    own = Claim.objects.filter(employee=request.user).order_by("pk")
    return render(request, "claims.html", {"claims": own, "form": form})
