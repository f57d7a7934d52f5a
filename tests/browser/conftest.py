# SPDX-License-Identifier: MIT
"""The same fixtures as in ../services."""
import importlib.util
import os
import sys

SERVICES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "services")
sys.path.append(SERVICES)
spec = importlib.util.spec_from_file_location("services_conftest", os.path.join(SERVICES, "conftest.py"))
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
machine, certs, folder, daemon, begin, serve = (
    shared.machine, shared.certs, shared.folder, shared.daemon, shared.begin, shared.serve)
