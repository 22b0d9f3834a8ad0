"""
title: Pause memory
author: Aqueduct
version: 0.1.0
description: A switch in the chat: nothing is stored and nothing recalled while it is on.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from filters/memory_pause.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: 3861072035add105


# --- filters/memory_pause.py ---


class Filter:
    """Does nothing itself: the memory looks whether it is switched on."""

    def __init__(self) -> None:
        self.toggle = True
