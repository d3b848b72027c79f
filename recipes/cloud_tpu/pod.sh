#!/bin/sh
# A slice of several Cloud TPU VMs. Not yet verified on a TPU. TensorFlow trains on all of them from
# one process, on worker 0; the others run the server of the image.
#
#     TPU=my-slice ZONE=us-west4-a VERSION=tpu-vm-tf-X.Y.Z-pod-pjrt recipes/cloud_tpu/pod.sh create
#     TPU=my-slice ZONE=us-west4-a recipes/cloud_tpu/pod.sh install
#     TPU=my-slice ZONE=us-west4-a BUCKET=gs://my-bucket recipes/cloud_tpu/pod.sh train
#     TPU=my-slice ZONE=us-west4-a recipes/cloud_tpu/pod.sh delete     # or it keeps costing
#
# VERSION must be an image with a TensorFlow server ("-pod"), of the TensorFlow version that is
# installed: see https://cloud.google.com/tpu/docs/runtimes.
set -eu

: "${TPU:?set TPU to the name of the slice}"
: "${ZONE:?set ZONE to its zone}"
ACCELERATOR="${ACCELERATOR:-v5litepod-16}"

on_workers() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

case "${1:-}" in
create)
    : "${VERSION:?set VERSION to a -pod image of the installed TensorFlow version}"
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
        --accelerator-type="$ACCELERATOR" --version="$VERSION"
    ;;
install)
    archive="$(mktemp -d)/tfscale.tar.gz"
    git archive --prefix=tfscale/ --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU:" --zone="$ZONE" --worker=all
    on_workers all "set -eu
        tar -xzf tfscale.tar.gz
        sudo apt-get update -q
        sudo apt-get install -q -y python3.11-venv
        python3.11 -m venv tfscale/.venv
        tfscale/.venv/bin/pip install --quiet './tfscale[tpu,recipes]'"
    ;;
train)
    : "${BUCKET:?set BUCKET to a gs:// bucket in the region of the slice}"
    # TPU_LOAD_LIBRARY=0: the server uses the chips of this VM, so the program must not open them.
    on_workers 0 "cd tfscale && TPU_NAME=$TPU TPU_LOAD_LIBRARY=0 .venv/bin/python -m \
        recipes.image_classification --dataset=digits --distribution_strategy=tpu --tpu=$TPU \
        --global_batch_size=256 --model_dir=$BUCKET/runs/$TPU"
    ;;
delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet
    ;;
*)
    echo "pod.sh: the argument must be create, install, train or delete. Received: '${1:-}'." >&2
    exit 2
    ;;
esac
