from digits import EPOCHS
from lightning import Trainer
from lightning_module import Digits, Images


def train(config):
    loop = Trainer(max_epochs=EPOCHS)
    loop.fit(Digits(config["lr"], config["width"]), Images())


train({"lr": 1e-3, "width": 8})
