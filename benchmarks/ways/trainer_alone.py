from digits import BATCH, EPOCHS, images, network

from itwinai.torch.trainer import TorchTrainer

trainer = TorchTrainer(
    config={"batch_size": BATCH, "optimizer": "adam", "optim_lr": 1e-3, "width": 8},
    epochs=EPOCHS,
    model=network,
)
trainer.execute(*images())
