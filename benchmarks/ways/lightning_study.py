from digits import EPOCHS
from lightning import Trainer
from lightning_module import Digits, Images

from itwinai.hpo import tune
from itwinai.torch.lightning import TrialCallback, trainer_options


def train(config, trial):
    callback = TrialCallback(trial)
    loop = Trainer(max_epochs=EPOCHS, callbacks=[callback], **trainer_options(trial))
    loop.fit(Digits(config["lr"], config["width"]), Images(), ckpt_path=callback.ckpt_path)


tune(
    train,
    space={
        "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
        "width": {"type": "choice", "categories": [4, 8, 16]},
    },
    config={"lr": 1e-3, "width": 8},
    epochs=EPOCHS,
    metric="validation_loss",
    mode="min",
    num_samples=16,
    algorithm="random",
    scheduler="none",
)
