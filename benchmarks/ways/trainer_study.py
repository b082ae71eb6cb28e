from digits import BATCH, EPOCHS, images, network

from itwinai.torch.trainer import RayTorchTrainer

trainer = RayTorchTrainer(
    config={"batch_size": BATCH, "optimizer": "adam", "optim_lr": 1e-3, "width": 8},
    epochs=EPOCHS,
    model=network,
    search_space={
        "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
        "width": {"type": "choice", "categories": [4, 8, 16]},
    },
    study={"num_samples": 16, "mode": "min", "algorithm": "random", "scheduler": "none"},
)
trainer.execute(*images())
