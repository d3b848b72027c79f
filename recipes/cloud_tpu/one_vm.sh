#!/bin/sh
# One Cloud TPU VM: create it, install tfscale, train a recipe, delete it. Not yet verified on a TPU.
# Run it in the checkout of tfscale, where gcloud is logged in:
#
#     TPU=my-tpu ZONE=us-west4-a recipes/cloud_tpu/one_vm.sh create
#     TPU=my-tpu ZONE=us-west4-a recipes/cloud_tpu/one_vm.sh install
#     TPU=my-tpu ZONE=us-west4-a BUCKET=gs://my-bucket recipes/cloud_tpu/one_vm.sh train
#     TPU=my-tpu ZONE=us-west4-a recipes/cloud_tpu/one_vm.sh delete     # or it keeps costing
#
# ACCELERATOR and VERSION belong together: v5litepod-N and v2-alpha-tpuv5-lite, v6e-N and
# v2-alpha-tpuv6e, v5p-N and v2-alpha-tpuv5, v4-N and tpu-ubuntu2204-base.
set -eu

: "${TPU:?set TPU to the name of the TPU VM}"
: "${ZONE:?set ZONE to its zone}"
ACCELERATOR="${ACCELERATOR:-v5litepod-4}"
VERSION="${VERSION:-v2-alpha-tpuv5-lite}"

on_vm() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --command="$1"
}

case "${1:-}" in
create)
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
        --accelerator-type="$ACCELERATOR" --version="$VERSION"
    ;;
install)
    archive="$(mktemp -d)/tfscale.tar.gz"
    git archive --prefix=tfscale/ --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU:" --zone="$ZONE"
    # The image comes with Python 3.10; tfscale takes 3.11 to 3.13.
    on_vm "set -eu
        tar -xzf tfscale.tar.gz
        sudo apt-get update -q
        sudo apt-get install -q -y python3.11-venv
        python3.11 -m venv tfscale/.venv
        tfscale/.venv/bin/pip install --quiet './tfscale[tpu,recipes]'
        tfscale/.venv/bin/tfscale doctor"
    ;;
train)
    : "${BUCKET:?set BUCKET to a gs:// bucket in the region of the TPU}"
    on_vm "cd tfscale && .venv/bin/python -m recipes.image_classification --dataset=digits \
        --distribution_strategy=tpu --tpu=local --global_batch_size=128 \
        --model_dir=$BUCKET/runs/$TPU"
    ;;
delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet
    ;;
*)
    echo "one_vm.sh: the argument must be create, install, train or delete. Received: '${1:-}'." >&2
    exit 2
    ;;
esac
