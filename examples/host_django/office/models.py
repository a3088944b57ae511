"""What the office keeps."""

from django.conf import settings
from django.db import models


class Claim(models.Model):
    employee = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=200)
    cents = models.PositiveIntegerField()
