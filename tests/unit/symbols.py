#!/usr/bin/env python3
"""The symbols that libtlsfd.so exports, the list in src/tlsfd.map and the functions
of the headers are the same. TAP.

usage: symbols.py LIBTLSFD.SO TLSFD.MAP HEADER..."""

# SPDX-License-Identifier: MIT

import re
import subprocess
import sys

library, map_file, *headers = sys.argv[1:]


def exported():
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    # "A" is the version node itself
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] != "A"}


def listed():
    text = open(map_file, encoding="utf-8").read()
    return set(re.findall(r"^\s*(\w+);", text.split("global:")[1].split("local:")[0], re.M))


def declared():
    names = []
    for header in headers:
        text = re.sub(r"/\*.*?\*/", "", open(header, encoding="utf-8").read(), flags=re.S)
        names += re.findall(r"^TLSFD_(?:API|CHECKED)\b[^;(]*?\b(\w+)\(", text, re.M)
    return set(names)


def unmarked():
    """Functions of the headers that lack TLSFD_API and TLSFD_CHECKED."""
    found = []
    for header in headers:
        text = re.sub(r"/\*.*?\*/", "", open(header, encoding="utf-8").read(), flags=re.S)
        for statement in text.split(";"):
            match = re.search(r"\b(tlsfd_\w+)\(", statement)
            if match and "typedef" not in statement and not re.search(r"TLSFD_(API|CHECKED)", statement):
                found.append(match[1])
    return found


def main():
    so, wanted, public = exported(), listed(), declared()
    checks = [
        ("the headers have functions", [] if len(public) >= 20 else ["only %d" % len(public)]),
        ("exported and listed in the map", sorted(so ^ wanted)),
        ("exported and declared in the headers", sorted(so ^ public)),
        ("every function of the headers is marked", unmarked()),
        ("names begin with tlsfd_", [name for name in so if not name.startswith("tlsfd_")]),
    ]
    print("1..%d" % len(checks))
    for number, (name, wrong) in enumerate(checks, 1):
        print("%sok %d - %s" % ("not " if wrong else "", number, name))
        for symbol in wrong:
            print("# " + symbol)
    return any(wrong for _, wrong in checks)


sys.exit(main())
