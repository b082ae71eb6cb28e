"""A small transformer that learns to write the sentences of a small grammar, letter by letter.

The text is generated here. ``python text.py`` trains once, ``python text.py --study`` searches.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from itwinai.components import DataGetter, DataSplitter, Predictor
from itwinai.pipeline import Pipeline
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

WORDS = {
    "who": ["the cat", "a bird", "my friend", "the old man"],
    "does": ["sees", "follows", "likes", "hears"],
    "how": ["quietly", "often", "again", "at night"],
}
LETTERS = sorted(set(" .".join(word for words in WORDS.values() for word in words)))


def encoded(text: str) -> torch.Tensor:
    """Numbers of a text's letters."""
    return torch.tensor([LETTERS.index(letter) for letter in text])


class SentencesGetter(DataGetter):
    """Writes sentences, and cuts the text into pieces and the same pieces one letter on.

    Args:
        sentences: How many.
        length: Letters of a piece.
    """

    def __init__(self, sentences: int = 600, length: int = 32) -> None:
        super().__init__()
        self.save_parameters(sentences=sentences, length=length)
        self.sentences, self.length = sentences, length

    def execute(self) -> Dataset[Any]:
        chance = random.Random(0)
        parts = [WORDS["who"], WORDS["does"], WORDS["who"], WORDS["how"]]
        written = [" ".join(chance.choice(words) for words in parts) for _ in range(self.sentences)]
        pieces = encoded(". ".join(written)).unfold(0, self.length + 1, self.length)
        return TensorDataset(pieces[:, :-1].clone(), pieces[:, 1:].clone())


class TextSplitter(DataSplitter):
    """The end of the text is for validation and test."""

    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        first = int(len(dataset) * self.train_proportion)
        second = first + int(len(dataset) * self.validation_proportion)
        bounds = (0, first), (first, second), (second, len(dataset))
        train, validation, test = (Subset(dataset, range(*part)) for part in bounds)
        return train, validation, test


class Transformer(nn.Module):
    """Attention over the letters before.

    Args:
        width: Features of a letter; a multiple of 8.
        layers: Blocks of attention.
        dropout: Share of features left out while training.
    """

    def __init__(self, width: int = 32, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.letter = nn.Embedding(len(LETTERS), width)
        self.place = nn.Embedding(256, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.next = nn.Linear(width, len(LETTERS))

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        length = letters.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=letters.device)
        places = torch.arange(length, device=letters.device)
        features = self.blocks(self.letter(letters) + self.place(places), mask, is_causal=True)
        return self.next(features).transpose(1, 2)  # classes second, as the loss wants them


class Writer(Predictor):
    """Lets the trained model go on with a beginning."""

    def __init__(self, beginning: str = "the cat ", letters: int = 60) -> None:
        super().__init__(model=None)
        self.save_parameters(beginning=beginning, letters=letters)
        self.beginning, self.letters = beginning, letters

    def execute(self, train: Any, validation: Any, test: Any, model: nn.Module) -> str:
        text = encoded(self.beginning).unsqueeze(0)
        with torch.no_grad():
            for _ in range(self.letters):
                likely = model.eval()(text)[:, :, -1].argmax(dim=1, keepdim=True)
                text = torch.cat([text, likely], dim=1)
        written = "".join(LETTERS[number] for number in text[0])
        print(f"It writes: {written}")
        return written


SEARCH = {
    "search_space": {
        "optim_lr": {"type": "loguniform", "lower": 1e-3, "upper": 2e-2},
        "lr_warmup_epochs": {"type": "uniform", "lower": 0.0, "upper": 2.0},
        "gradient_clipping": {"type": "loguniform", "lower": 0.1, "upper": 10.0},
        "layers": {"type": "choice", "categories": [1, 2]},
    },
    "study": {
        "name": "text",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": 6,
        "seed": 1,
    },
}


def pipeline(study: bool) -> Pipeline:
    """Build the pipeline of ``train.yaml``, or of ``study.yaml``."""
    trainer = RayTorchTrainer if study else TorchTrainer
    config = {
        "batch_size": 16,
        "optimizer": "adamw",
        "optim_lr": 0.008,
        "lr_scheduler": "cosine",
        "lr_warmup_epochs": 1.0,
        "gradient_clipping": 1.0,
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.9,
        "layers": 2,
        "shuffle_train": True,
        "num_workers_dataloader": 0,
    }
    return Pipeline(
        [
            SentencesGetter(),
            TextSplitter(0.8, 0.1, 0.1),
            trainer(
                config, epochs=8, model=Transformer, random_seed=1, **(SEARCH if study else {})
            ),
            Writer(),
        ]
    )


if __name__ == "__main__":
    pipeline("--study" in sys.argv[1:]).execute()
