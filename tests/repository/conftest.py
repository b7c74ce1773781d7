"""A small repository with everything that makes one hard."""

from __future__ import annotations

import os

import pytest

FILES = {
    "README.md": "# Shop\n![screen](docs/screen.png)\nSells things.\n",
    "pyproject.toml": '[project]\nname = "shop"\n',
    ".gitignore": "*.log\nbuild/\n!keep.log\n",
    "debug.log": "ignored\n",
    "keep.log": "kept by a negated rule\n",
    "build/out.py": "import shop\n",
    "shop/__init__.py": "from .prices import total as sum_up\nfrom .prices import total\n",
    "shop/prices.py": (
        '"""Prices."""\nfrom __future__ import annotations\n\nfrom . import tax\nfrom .tax import RATE as rate\n\n\n'
        "LIMIT: int = 3\n\n\ndef total(items):\n"
        '    """Add up what a basket costs, with tax."""\n'
        "    result = 0\n    for item in items:\n        result += item.price * (1 + rate)\n    return result\n"
    ),
    "shop/tax.py": (
        "RATE = 0.2\n\n\ndef late():\n    from shop import prices  # a cycle, taken late\n    return prices\n\n\n"
        "class Ledger:\n    name: str = 'x'\n\n"
        "    def close_books(self, year):\n"
        '        """Freeze every account at the end of the fiscal year."""\n'
        "        return [year]\n"
    ),
    "shop/app.py": (
        "import os.path\nimport shop.tax as t\nfrom shop import total\n\n\ndef main():\n"
        "    print('<｜User｜> <think> <|eos|>', total([]), t.RATE)\n"
    ),
    "shop/sub/.gitignore": "secret_*.py\n",
    "shop/sub/__init__.py": "",
    "shop/sub/secret_a.py": "1\n",
    "shop/sub/deep.py": "from ..prices import total\nfrom .. import tax\n",
    "tests/helpers.py": "X = 1\n",
    "tests/test_shop.py": "import helpers\nfrom shop import *\n",
    "web/src/index.ts": "import {draw} from './draw.js';\nimport x from '@lib/util';\nexport * from './types';\n",
    "web/src/draw.ts": "const fs = require('fs');\n"
    "export function draw(a: number): void {\n  let b = a;\n  b += 1;\n}\n",
    "web/src/types/index.ts": "export interface Item {\n  price: number;\n}\n",
    "web/lib/util.ts": "export const f = (x: number) => {\n  return x;\n};\n",
    "web/tsconfig.json": '{"compilerOptions": {"baseUrl": ".", "paths": {"@lib/*": ["lib/*"]}}}',
    "go/go.mod": "module example.com/shop\n",
    "go/main.go": 'package main\n\nimport (\n\t"fmt"\n\t"example.com/shop/money"\n)\n\n'
    "func main() { fmt.Println(money.X) }\n",
    "go/money/money.go": "package money\n\nvar X = 1\n\nfunc Add(a int) int {\n\treturn a\n}\n",
    "go/money/money_test.go": "package money\n",
    "rust/src/lib.rs": "mod cart;\nuse crate::cart::{Cart, item::Item};\npub fn go() {}\n",
    "rust/src/cart/mod.rs": "pub mod item;\npub struct Cart;\n",
    "rust/src/cart/item.rs": "use super::Cart;\npub struct Item;\n"
    "impl Item {\n    fn new() -> Self {\n        Item\n    }\n}\n",
    "java/A.java": "package a.b;\nimport a.c.D;\nclass A {\n  int f() {\n    return 1;\n  }\n}\n",
    "java/D.java": "package a.c;\npublic class D {}\n",
    "c/main.c": '#include <stdio.h>\n#include "list.h"\nint main(void) {\n  return 0;\n}\n',
    "c/include/list.h": "struct list { int n; };\n",
    "broken.py": "def (:\n",
    ".env": "KEY=1\n",
    "package-lock.json": "{}",
}


@pytest.fixture
def shop(tmp_path):
    """The repository's root."""
    root = tmp_path / "shop-repo"
    for path, text in FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (root / "blob.bin").write_bytes(b"\0\1\2" * 50)
    (root / "latin.py").write_bytes("name = 'Käse, plain text around it'\n".encode("latin-1"))
    (root / "wide.txt").write_bytes("two bytes each".encode("utf-16"))
    (root / "huge.py").write_bytes(b"x = 1\n" * 200_000)
    (root / "bundle.js").write_text("var a=1;" * 2000)
    os.symlink(root, root / "shop" / "loop")
    os.symlink(root / "nowhere", root / "dangling")
    os.mkfifo(root / "pipe")
    from PIL import Image

    (root / "docs").mkdir()
    Image.new("RGB", (96, 64), "#336699").save(root / "docs" / "screen.png")
    return root
