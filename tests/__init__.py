"""Tests that span several apps, and the real servers that tests of every app run against."""
