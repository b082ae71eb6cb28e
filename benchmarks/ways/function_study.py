import torch
from digits import EPOCHS, images, loss_of, network, train_one_epoch

from itwinai.hpo import tune


def train(config, trial):
    training, validation = images()
    model = network(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), config["lr"])
    for _ in range(EPOCHS):
        train_one_epoch(model, optimizer, training)
        loss = loss_of(model, validation)
        trial.report({"loss": loss})


tune(
    train,
    space={
        "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
        "width": {"type": "choice", "categories": [4, 8, 16]},
    },
    config={"lr": 1e-3, "width": 8},
    epochs=EPOCHS,
    metric="loss",
    mode="min",
    num_samples=16,
    algorithm="random",
    scheduler="none",
)
